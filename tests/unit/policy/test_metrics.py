"""The metrics of a policy server have one name each, and errors of the registry are counted by reason."""

from __future__ import annotations

from attune.domain.errors import RegistryCorrupt
from attune.platform.telemetry import describe
from attune.policy.metrics import PolicyMetrics
from prometheus_client import CollectorRegistry


def test_names_are_ours_and_registry_errors_are_counted() -> None:
    measured = CollectorRegistry()
    metrics = PolicyMetrics(measured)
    metrics.count_registry_error(RegistryCorrupt("torn"))
    metrics.count_registry_error(OSError("away"))
    for error in ("REGISTRY_CORRUPT", "OSError"):
        assert measured.get_sample_value("attune_policy_registry_errors_total", {"error": error}) == 1
    assert all(metric.name.startswith("attune_") and metric.help for metric in describe(measured))
    assert len(describe(measured)) == 16


def test_what_rules_count_stands_from_the_start() -> None:
    measured = CollectorRegistry()
    PolicyMetrics(measured)
    for purpose in ("user", "rollout"):
        labels = {"purpose": purpose, "outcome": "written"}
        assert measured.get_sample_value("attune_generation_requests_total", labels) == 0
    for reason in ("queue_full", "log_slow"):
        assert measured.get_sample_value("attune_generations_unrecorded_total", {"reason": reason}) == 0
