"""The names under which ingest is watched."""

from __future__ import annotations

from attune.feedback.ingest.metrics import IngestMetrics
from attune.platform.telemetry import describe
from prometheus_client import CollectorRegistry


def test_ingest_is_watched_under_these_names() -> None:
    registry = CollectorRegistry()
    IngestMetrics(registry)
    assert {(metric.name, metric.type) for metric in describe(registry)} == {
        ("attune_feedback_events_total", "counter"),
        ("attune_feedback_ack_duration_seconds", "histogram"),
        ("attune_feedback_repeated_total", "counter"),
        ("attune_feedback_conflicts_total", "counter"),
    }
