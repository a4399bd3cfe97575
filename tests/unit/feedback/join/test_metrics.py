"""The names under which the join is watched."""

from __future__ import annotations

from attune.domain.feedback import FeedbackState
from attune.feedback.join.metrics import REASONS, RESULTS, JoinMetrics
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


def test_what_can_become_of_an_entry_stands_from_the_start() -> None:
    registry = CollectorRegistry()
    JoinMetrics(registry)
    assert all(registry.get_sample_value("attune_join_events_total", {"result": result}) == 0 for result in RESULTS)
    assert all(registry.get_sample_value("attune_dead_letters_total", {"reason": reason}) == 0 for reason in REASONS)


def test_every_state_but_the_first_is_a_result() -> None:
    assert {state.name.lower() for state in FeedbackState} - set(RESULTS) == {"accepted"}
