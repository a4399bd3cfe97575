"""The names by which a reward server is watched."""

from __future__ import annotations

from attune.domain.errors import RegistryCorrupt
from attune.reward.metrics import RewardMetrics
from prometheus_client import CollectorRegistry


def test_names() -> None:
    registry = CollectorRegistry()
    metrics = RewardMetrics(registry)
    assert {family.name for family in registry.collect()} == {
        "attune_score_pairs",
        "attune_score_duration_seconds",
        "attune_score_batch_pairs",
        "attune_score_queue_pairs",
        "attune_reward_revision_info",
        "attune_reward_swaps",
        "attune_reward_load_refused",
        "attune_reward_live_revision_number",
        "attune_reward_swap_duration_seconds",
        "attune_reward_registry_errors",
        "attune_reward_torn_alias_files",
    }
    metrics.count_registry_error(RegistryCorrupt("torn"))
    metrics.count_registry_error(OSError("away"))
    for error in ("REGISTRY_CORRUPT", "OSError"):
        assert registry.get_sample_value("attune_reward_registry_errors_total", {"error": error}) == 1
