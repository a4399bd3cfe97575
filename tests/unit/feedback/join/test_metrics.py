"""The names under which the join is watched."""

from __future__ import annotations

from attune.feedback.join.metrics import JoinMetrics
from attune.platform.telemetry import describe
from prometheus_client import CollectorRegistry


def test_the_join_is_watched_under_these_names() -> None:
    registry = CollectorRegistry()
    JoinMetrics(registry)
    assert {(metric.name, metric.type) for metric in describe(registry)} == {
        ("attune_join_events_total", "counter"),
        ("attune_join_pending_events", "gauge"),
        ("attune_join_delay_seconds", "histogram"),
        ("attune_dead_letters_total", "counter"),
        ("attune_feedback_conflicts_total", "counter"),
        ("attune_event_lag_records", "gauge"),
        ("attune_event_lag_seconds", "gauge"),
        ("attune_event_log_unavailable_total", "counter"),
        ("attune_examples_total", "counter"),
        ("attune_feedback_freshness_seconds", "histogram"),
    }
