"""Settings of the trainer. The defaults train a model of a few million parameters on a laptop."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from attune.client import Access
from attune.domain.errors import ConfigurationInvalid
from attune.domain.generations import Sampling
from attune.modeling.precision import Precision
from attune.platform.access.settings import AccessSettings
from attune.platform.config import ControlPort, LogLevel, Section
from attune.platform.lease import LeaseSettings
from attune.platform.registry.settings import RegistrySettings
from attune.platform.tracing import TracingSettings
from attune.trainer.examples import Split
from attune.trainer.policy_learner import PPOSettings
from attune.trainer.reward_learner import RewardSettings


class Addresses(Section):
    """Where the other services are."""

    policy: str = Field("127.0.0.1:7001", description="App port of the policy.")
    policy_control: str = Field("127.0.0.1:7101", description="Control port of the policy.")
    reward: str = Field("127.0.0.1:7002", description="App port of the reward server.")
    reward_control: str = Field("127.0.0.1:7102", description="Control port of the reward server.")
    join_control: str = Field("127.0.0.1:7104", description="Control port of the join.")
    timeout_s: float = Field(60.0, gt=0, description="Deadline of each call.")


class Calls(Section):
    """How the other services are reached, and with which keys. Renewed files hold without a restart."""

    tls: bool = Field(False, description="Encrypt, and check the certificates of the other services.")
    ca_file: str = Field("", description="PEM file of the authorities that are trusted; empty: those of gRPC.")
    cert_file: str = Field("", description="PEM file of the certificate shown to servers that ask for one.")
    key_file: str = Field("", description="PEM file of the certificate's key.")
    app_bearer_file: str = Field("", description="File of a key for attune.trainer with the scopes generate and score.")
    control_bearer_file: str = Field("", description="File of a key with the scope control.")

    def app(self) -> Access:
        """For app ports."""
        return self._access(self.app_bearer_file)

    def control(self) -> Access:
        """For control ports."""
        return self._access(self.control_bearer_file)

    @model_validator(mode="after")
    def _stands(self) -> Self:
        try:
            self.app()
        except ConfigurationInvalid as error:
            raise ValueError(error.message) from None
        return self

    def _access(self, bearer_file: str) -> Access:
        return Access(
            tls=self.tls,
            ca_file=self.ca_file,
            cert_file=self.cert_file,
            key_file=self.key_file,
            bearer_file=bearer_file,
        )


class RewardUpdate(Section):
    """When and how the reward model is updated."""

    new_examples: int = Field(48, ge=1, description="Update after this many new examples.")
    interval_s: float = Field(20.0, gt=0, description="Or after this long with at least one.")
    steps: int = Field(8, ge=1, description="Optimizer steps of an update; more if the new examples would not fit.")
    gate_steps: int = Field(4, ge=1, description="The same for the gate's reward model.")
    batch_size: int = Field(32, ge=2, description="Examples a step, half new and half replayed.")
    held_out_examples: int = Field(400, ge=1, description="Newest held-out examples that a revision is judged on.")
    max_subject_share: float = Field(0.05, gt=0, le=1, description="Most that one person may weigh in an update.")
    lr: float = Field(3e-4, gt=0, description="Learning rate.")


class Rollouts(Section):
    """What PPO samples."""

    prompts: int = Field(32, ge=1, description="Prompts a step.")
    completions: int = Field(2, ge=1, le=64, description="Completions a prompt.")
    max_tokens: int = Field(64, ge=1, description="Longest completion in tokens, the EOS included.")
    temperature: float = Field(1.0, gt=0, description="Temperature of sampling and of log-probabilities.")
    min_prompts: int = Field(32, ge=1, description="Training prompts needed before the first step.")
    held_out_share: float = Field(0.15, gt=0, lt=1, description="Share of prompts kept for the gate, by hash.")
    prompt_capacity: int = Field(20_000, ge=1, description="Most prompts held, the newest first.")
    prompts_file: str = Field("", description="JSONL file of more prompts; empty: live prompts only.")

    def sampling(self, completions: int | None = None) -> Sampling:
        """Sampling parameters of a rollout."""
        return Sampling(
            max_tokens=self.max_tokens, temperature=self.temperature, completions=completions or self.completions
        )


class PPO(Section):
    """Hyper-parameters of the update; see attune.trainer.policy_learner."""

    actor_lr: float = Field(3e-4, gt=0, description="Learning rate of the policy.")
    critic_lr: float = Field(5e-4, gt=0, description="Learning rate of the critic.")
    epochs: int = Field(1, ge=1, description="Passes over a batch.")
    minibatches: int = Field(1, ge=1, description="Optimizer steps a pass.")
    kl_coefficient: float = Field(0.05, ge=0, description="Coefficient of the KL penalty, the first one if adaptive.")
    kl_target: float = Field(0.0, ge=0, description="Target of the adaptive coefficient in nats a response; 0: fixed.")
    kl_horizon: float = Field(2_000.0, gt=0, description="Horizon of the adaptive coefficient in episodes.")
    clip: float = Field(0.2, gt=0, lt=1, description="Clip range of the policy ratio.")
    value_clip: float = Field(0.2, gt=0, description="Clip range of the value.")
    lam: float = Field(0.95, ge=0, le=1, description="Lambda of generalised advantage estimation.")
    missing_eos_penalty: float = Field(1.0, ge=0, description="Taken from the score of a response that was cut off.")


class Gate(Section):
    """What a policy revision must pass."""

    sampler: Literal["policy", "trainer"] = Field(
        "policy", description="Who writes what is compared: the policy server, or the trainer, which vLLM needs."
    )
    prompts: int = Field(64, ge=8, description="Held-out prompts to compare on.")
    completions: int = Field(1, ge=1, le=16, description="Completions a prompt.")
    alpha: float = Field(0.05, gt=0, lt=0.5, description="Significance of a regression.")
    tie_margin: float = Field(1e-6, ge=0, description="Differences of the mean score up to this are ties.")
    kl_ceiling: float = Field(8.0, gt=0, description="Most nats a response to the reference; beyond it training stops.")


class TrainerSettings(RegistrySettings, AccessSettings):
    """Everything the trainer can be told."""

    service: ClassVar[str] = "trainer"

    control: ControlPort = ControlPort(port=7105)
    tracing: TracingSettings = TracingSettings()
    metrics_host: str = Field("127.0.0.1", description="Address of the metrics port.")
    metrics_port: int = Field(7205, ge=0, le=65535, description="Port of /metrics; 0 takes a free one.")
    log_level: LogLevel = Field("info", description="Least severity that is logged.")
    drain_s: float = Field(5.0, ge=0, description="Time for running calls at the end.")
    policy: str = Field("support", description="Name of the policy: policies/<name>.")
    reward_model: str = Field("support", description="Name of the reward model: rewards/<name>.")
    gate_model: str = Field("support-gate", description="Name of the gate's first reward model: rewards/<name>.")
    state_folder: str = Field("attune-data/trainer", description="Folder of checkpoints and step inputs.")
    seed: int = Field(0, ge=0, description="Seed of draws and rollouts.")
    device: str = Field("auto", description="auto, cpu or cuda.")
    precision: Precision = Field("auto", description="Of products in training: auto, float32 or bfloat16.")
    threads: int = Field(0, ge=0, description="Threads of torch; 0: its own choice.")
    poll_interval_s: float = Field(0.5, gt=0, description="Pause between looks when there is nothing to do.")
    prompts_interval_s: float = Field(10.0, gt=0, description="Time between readings of the prompt reservoir.")
    max_ppo_steps_per_reward: int = Field(8, ge=1, description="PPO steps before a new reward revision is needed.")
    example_capacity: int = Field(50_000, ge=1, description="Most examples held for replay, the newest first.")
    gate_subjects: float = Field(0.2, gt=0, lt=1, description="Share of people whose feedback trains the gate.")
    held_out_subjects: float = Field(0.15, gt=0, lt=1, description="Share of people whose feedback judges.")
    keep_inputs: int = Field(2, ge=1, description="Saved step inputs kept after their step.")
    only_saved_inputs: bool = Field(False, description="Replay saved step inputs and take no other step.")
    keep_revisions: int = Field(20, ge=2, description="Newest revisions whose weights are kept, beside aliased ones.")
    addresses: Addresses = Addresses()
    calls: Calls = Calls()
    lease: LeaseSettings = LeaseSettings()
    reward: RewardUpdate = RewardUpdate()
    rollouts: Rollouts = Rollouts()
    ppo: PPO = PPO()
    gate: Gate = Gate()

    def split(self) -> Split:
        return Split(self.gate_subjects, self.held_out_subjects)

    def ppo_settings(self) -> PPOSettings:
        own = self.ppo.model_dump(exclude={"missing_eos_penalty"})
        return PPOSettings(
            **own,
            missing_eos_value=self.ppo.missing_eos_penalty,
            temperature=self.rollouts.temperature,
            precision=self.precision,
        )

    def reward_settings(self) -> RewardSettings:
        return RewardSettings(lr=self.reward.lr, precision=self.precision)
