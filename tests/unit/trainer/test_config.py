"""Settings of the trainer: what they say reaches PPO, the reward update, the rollouts and the split of people."""

import pytest
from attune.domain.errors import ConfigurationInvalid
from attune.domain.generations import Sampling
from attune.platform.config import load_settings
from attune.trainer.config import TrainerSettings
from attune.trainer.examples import Split
from attune.trainer.kl_controller import AdaptiveKL, FixedKL
from attune.trainer.servers import GrpcServers


def load(*flags: str) -> TrainerSettings:
    return load_settings(TrainerSettings, flags)


def test_the_defaults_hold_and_keep_the_coefficient_fixed():
    settings = load()
    assert settings.ppo_settings().controller() == FixedKL(0.05)
    assert (settings.ppo_settings().epochs, settings.ppo_settings().minibatches) == (1, 1)
    assert settings.split() == Split(gate=0.2, held_out=0.15)


def test_what_is_said_reaches_the_ppo_update():
    ppo = load(
        "ppo.actor_lr=0.01", "ppo.clip=0.3", "ppo.lam=1", "ppo.missing_eos_penalty=2.5", "ppo.kl_target=6",
        "ppo.kl_coefficient=0.15", "ppo.kl_horizon=10000", "rollouts.temperature=0.7",
    ).ppo_settings()  # fmt: skip
    assert (ppo.actor_lr, ppo.clip, ppo.lam) == (0.01, 0.3, 1.0)
    assert (ppo.missing_eos, ppo.missing_eos_value) == ("penalty", 2.5)
    assert ppo.controller() == AdaptiveKL(0.15, 6.0, 10_000)
    assert ppo.temperature == 0.7  # log-probabilities are those of what was sampled


def test_what_is_said_reaches_rollouts_and_reward_update():
    settings = load("rollouts.max_tokens=9", "rollouts.completions=3", "rollouts.temperature=0.7", "reward.lr=0.02")
    assert settings.rollouts.sampling() == Sampling(max_tokens=9, temperature=0.7, completions=3)
    assert settings.rollouts.sampling(completions=1).completions == 1
    assert settings.reward_settings().lr == 0.02


async def test_the_addresses_are_those_that_the_servers_take():
    servers = GrpcServers(**load("addresses.timeout_s=3").addresses.model_dump())
    await servers.close()
    assert servers._timeout_s == 3.0


@pytest.mark.parametrize(
    "flag",
    [
        "control.host=0.0.0.0",
        "ppo.clip=0",
        "ppo.actor_lr=-1",
        "gate.alpha=0.9",
        "gate.kl_ceiling=0",
        "gate_subjects=1",
        "rollouts.temperature=0",
        "rollouts.completions=65",
        "reward.max_subject_share=0",
        "max_ppo_steps_per_reward=0",
        "keep_revisions=1",
    ],
)
def test_what_cannot_hold_is_refused_by_its_key(flag):
    with pytest.raises(ConfigurationInvalid, match=flag.partition("=")[0]):
        load(flag)


def test_calls_show_the_key_made_for_the_port():
    calls = load("calls.app_bearer_file=app.key", "calls.control_bearer_file=control.key", "calls.tls=true").calls
    assert (calls.app().bearer_file, calls.control().bearer_file) == ("app.key", "control.key")
    assert calls.app().tls
    assert calls.control().tls


def test_certificates_without_tls_are_refused():
    with pytest.raises(ConfigurationInvalid, match="need tls"):
        load("calls.ca_file=ca.pem")
