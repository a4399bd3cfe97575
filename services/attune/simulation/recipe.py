"""The demo's recipe: shapes, stage settings and the pace of its loop, for two cores and ten minutes.

Found by trial on the example language. The trainer's part is given as its own settings, KEY=VALUE, so that the demo
runs the trainer that everyone runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from attune.modeling.loading import PolicyShape
from attune.simulation.users import Customs
from attune.trainer.stages.training import StageSettings

MAX_TOKENS = 64
"""Longest completion in tokens; the longest answers of the grammar have about fifty."""


@dataclass(frozen=True)
class Recipe:
    """Everything the demo chooses. `seed` reaches the data, the models, the users and the trainer."""

    seed: int = 0
    shape: PolicyShape = field(default_factory=lambda: PolicyShape("llama", 2, 256, 8, mlp_width=512, context=192))
    vocabulary: int = 1200
    sequence_tokens: int = 128
    conversations: int = 40_000
    demonstrations: int = 4_000
    pretraining_steps: int = 2300
    sft_steps: int = 120
    reward_epochs: float = 1.2
    gate_epochs: float = 2.0
    first_visits: int = 3400
    population: int = 120
    customs: Customs = field(default_factory=Customs)
    visitors: int = 4
    pause_s: float = 1.0
    """Between two visits of one visitor."""

    def pretraining(self) -> StageSettings:
        return StageSettings(
            lr=2.4e-3,
            batch_size=20,
            steps=self.pretraining_steps,
            warmup_steps=40,
            weight_decay=0.05,
            validation_share=0.01,
            validate_every=200,
            checkpoint_every=500,
            seed=self.seed,
        )

    def sft(self) -> StageSettings:
        return StageSettings(
            lr=1e-3,
            batch_size=32,
            steps=self.sft_steps,
            warmup_steps=10,
            validation_share=0.03,
            validate_every=60,
            checkpoint_every=0,
            seed=self.seed,
        )

    def reward_model(self, is_gate: bool) -> StageSettings:
        """Of the reward model, or of the gate's, which fewer people teach."""
        return StageSettings(
            lr=1.2e-3,
            batch_size=48,
            epochs=self.gate_epochs if is_gate else self.reward_epochs,
            warmup_steps=5,
            weight_decay=0.01,
            validation_share=0.05,
            validate_every=60,
            checkpoint_every=0,
            seed=self.seed + is_gate,
        )

    def trainer(self) -> list[str]:
        """KEY=VALUE settings of the trainer."""
        return [
            f"seed={self.seed}",
            "gate_subjects=0.22",
            "held_out_subjects=0.12",
            "prompts_interval_s=5",
            "max_ppo_steps_per_reward=6",
            "keep_inputs=2",
            "reward.new_examples=36",
            "reward.interval_s=10",
            "reward.steps=3",
            "reward.gate_steps=2",
            "reward.held_out_examples=360",
            "reward.lr=1.5e-4",
            f"rollouts.max_tokens={MAX_TOKENS}",
            "rollouts.prompts=192",
            "rollouts.completions=1",
            "ppo.actor_lr=7e-4",
            "ppo.critic_lr=3e-3",
            "ppo.kl_coefficient=0.1",
            "gate.prompts=40",
            "gate.kl_ceiling=5.0",
        ]
