"""Prometheus metrics of the trainer. Revisions never stand as labels; figures of a step become gauges.

What no step has measured yet is not a number, so that no alert takes it for zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

POLICY_FIGURES = {
    "kl": ("attune_ppo_kl_nats", "KL of the policy to the reference, nats a response, of the last rollouts"),
    "kl_coefficient": ("attune_ppo_kl_coefficient", "Coefficient of the KL penalty"),
    "score_mean": ("attune_ppo_score", "Mean normalised score of the last rollouts"),
    "entropy": ("attune_ppo_entropy_nats", "Mean entropy a token of the last rollouts"),
    "clip_fraction": ("attune_ppo_clip_ratio", "Share of tokens whose ratio was clipped in the last minibatch"),
    "ratio_max": ("attune_ppo_policy_ratio_max", "Greatest policy ratio; exactly 1 with one epoch and one minibatch"),
    "approx_kl": ("attune_ppo_approx_kl_nats", "k2 between new and old policy; exactly 0 with one epoch"),
    "explained_variance": ("attune_ppo_explained_variance", "Explained variance of the critic"),
    "policy_loss": ("attune_ppo_policy_loss", "Clipped policy loss"),
    "value_loss": ("attune_ppo_value_loss", "Clipped value loss"),
    "actor_grad_norm": ("attune_ppo_actor_gradient_norm", "Gradient norm of the actor before clipping"),
    "response_tokens": ("attune_ppo_response_tokens", "Mean tokens of a response"),
    "ended_fraction": ("attune_ppo_ended_ratio", "Share of responses that ended with EOS"),
    "engine_gap_mean_exp_abs": (
        "attune_ppo_engine_gap_ratio",
        "Mean of exp(abs(learner - engine log-probability)), 1 is none",
    ),
    "win_rate": ("attune_gate_win_rate", "Win rate of the last candidate against stable, by the gate's reward model"),
    "gate_kl": ("attune_gate_kl_nats", "KL of the last candidate on held-out prompts"),
}
REWARD_FIGURES = {
    "nll": ("attune_reward_training_nll", "Negative log-likelihood of the last reward batch"),
    "reward_accuracy": (
        "attune_reward_held_out_accuracy",
        "Share of held-out pairs that the last revision orders right",
    ),
    "calibration_error": ("attune_reward_calibration_error", "Expected calibration error on held-out pairs"),
    "anchor_drift": ("attune_reward_anchor_drift", "Move of the anchors' mean raw score, in deviations of before"),
    "gate_accuracy": (
        "attune_gate_reward_accuracy",
        "Share of held-out pairs that the gate's reward model orders right",
    ),
}
STEP_KINDS, STEP_OUTCOMES = ("policy", "reward"), ("promoted", "rejected")


class TrainerMetrics:
    """All metrics of the trainer on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.steps = Counter(
            "attune_training_steps", "Training steps by kind and outcome", ["kind", "outcome"], registry=registry
        )
        for kind, outcome in product(STEP_KINDS, STEP_OUTCOMES):
            self.steps.labels(kind, outcome)  # stands from the start: the first increase must not be missed
        self.step_duration_s = Histogram(
            "attune_training_step_duration_seconds",
            "Duration of a training step",
            ["kind"],
            registry=registry,
            buckets=(0.5, 1, 2, 5, 10, 20, 60, 300, 1800),
        )
        self.phase = Gauge("attune_training_phase_info", "1 for the phase it is in", ["phase"], registry=registry)
        self.idle = Gauge("attune_training_is_idle", "1 while there is nothing to learn", registry=registry)
        self.stopped = Gauge("attune_training_is_stopped", "1 while stopped to protect the policy", registry=registry)
        self.non_finite = Counter(
            "attune_training_non_finite", "Updates stopped by a non-finite number", registry=registry
        )
        self.examples = Gauge("attune_training_examples", "Live examples held", ["role"], registry=registry)
        self.prompts = Gauge("attune_training_prompts", "Prompts in the pool", registry=registry)
        self.checkpoint_time = Gauge(
            "attune_training_checkpoint_timestamp_seconds", "When the last checkpoint was written", registry=registry
        )
        self.checkpoint_time.set(math.nan)
        self.stable_number = Gauge(
            "attune_training_stable_revision_number",
            "Number of the revision that this trainer holds for stable; 0 for none",
            ["kind"],
            registry=registry,
        )
        self.kl_ceiling = Gauge(
            "attune_gate_kl_ceiling_nats", "Most KL that the gate lets pass, nats a response", registry=registry
        )
        self.calls_failed = Counter(
            "attune_training_calls_failed",
            "Calls to other services that failed and were tried again",
            ["service"],
            registry=registry,
        )
        self.texts_cut = Counter(
            "attune_training_texts_cut",
            "Texts of reward updates that exceeded the context and lost the front of their prompt",
            registry=registry,
        )
        self.happenings_lost = Counter(
            "attune_training_happenings_lost", "Happenings that a slow watcher did not get", registry=registry
        )
        self.epoch = Gauge("attune_training_epoch", "The epoch this trainer holds", registry=registry)
        self._figures = {
            name: Gauge(metric, help_text, registry=registry)
            for name, (metric, help_text) in {**POLICY_FIGURES, **REWARD_FIGURES}.items()
        }
        for figure in self._figures.values():
            figure.set(math.nan)
        self._phase = ""

    def show(self, figures: Mapping[str, float]) -> None:
        """Sets the gauges of the figures that have one."""
        for name, value in figures.items():
            if name in self._figures:
                self._figures[name].set(value)

    def enter(self, phase: str) -> None:
        """Marks the phase, such as "idle"."""
        if self._phase:
            self.phase.labels(self._phase).set(0)
        self.phase.labels(phase).set(1)
        self.idle.set(phase == "idle")
        self.stopped.set(phase == "stopped")
        self._phase = phase
