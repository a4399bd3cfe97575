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
