"""The names by which a reward server is watched."""

from __future__ import annotations

from attune.reward.metrics import RewardMetrics
from prometheus_client import CollectorRegistry


def test_names() -> None:
    registry = CollectorRegistry()
    RewardMetrics(registry)
    assert {family.name for family in registry.collect()} == {
        "attune_score_pairs",
        "attune_score_duration_seconds",
        "attune_score_batch_pairs",
        "attune_score_queue_pairs",
        "attune_reward_revision_info",
        "attune_reward_swaps",
        "attune_reward_load_refused",
    }
