"""The trainer's metrics: figures that have a gauge are shown, and one phase is marked at a time."""

from __future__ import annotations

import math

import pytest
from attune.trainer.metrics import POLICY_FIGURES, REWARD_FIGURES, TrainerMetrics
from prometheus_client import CollectorRegistry


@pytest.fixture
def measured() -> CollectorRegistry:
    return CollectorRegistry()


def test_figures_become_gauges_and_unknown_ones_are_ignored(measured: CollectorRegistry) -> None:
    TrainerMetrics(measured).show({"kl": 1.5, "reward_accuracy": 0.8, "no_gauge": 3.0})
    assert measured.get_sample_value("attune_ppo_kl_nats") == 1.5
    assert measured.get_sample_value("attune_reward_held_out_accuracy") == 0.8


def test_what_no_step_has_measured_is_not_a_number(measured: CollectorRegistry) -> None:
    TrainerMetrics(measured)
    for name in ("attune_ppo_entropy_nats", "attune_gate_kl_nats", "attune_training_checkpoint_timestamp_seconds"):
        assert math.isnan(measured.get_sample_value(name) or 0.0)


@pytest.mark.parametrize("kind", ["policy", "reward"])
@pytest.mark.parametrize("outcome", ["promoted", "rejected"])
def test_every_outcome_of_a_step_stands_from_the_start(measured: CollectorRegistry, kind: str, outcome: str) -> None:
    TrainerMetrics(measured)
    assert measured.get_sample_value("attune_training_steps_total", {"kind": kind, "outcome": outcome}) == 0


def test_no_figure_has_two_gauges() -> None:
    names = [name for name, _ in (*POLICY_FIGURES.values(), *REWARD_FIGURES.values())]
    assert len(names) == len(set(names))
    assert not POLICY_FIGURES.keys() & REWARD_FIGURES.keys()


def test_one_phase_at_a_time(measured: CollectorRegistry) -> None:
    metrics = TrainerMetrics(measured)
    for phase in ("idle", "rollout", "stopped"):
        metrics.enter(phase)
    phases = {
        p: measured.get_sample_value("attune_training_phase_info", {"phase": p}) for p in ("idle", "rollout", "stopped")
    }
    assert phases == {"idle": 0, "rollout": 0, "stopped": 1}
    assert measured.get_sample_value("attune_training_is_idle") == 0
    assert measured.get_sample_value("attune_training_is_stopped") == 1
