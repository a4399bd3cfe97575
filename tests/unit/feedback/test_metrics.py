"""Both processes count conflicts under one name."""

from __future__ import annotations

from attune.feedback.ingest import metrics as ingest
from attune.feedback.join import metrics as join
from attune.feedback.metrics import CONFLICTS
from prometheus_client import generate_latest


def test_all_metrics_of_feedback_stand_in_one_registry_under_their_names() -> None:
    CONFLICTS.labels("join").inc(0)
    assert ingest.EVENTS is not join.EVENTS
    text = generate_latest().decode()
    for name in (
        "attune_feedback_events_total",
        "attune_feedback_ack_duration_seconds",
        "attune_feedback_repeated_total",
        "attune_feedback_conflicts_total",
        "attune_join_events_total",
        "attune_join_pending_events",
        "attune_join_delay_seconds",
        "attune_dead_letters_total",
        "attune_event_lag_records",
        "attune_event_lag_seconds",
        "attune_examples_total",
        "attune_feedback_freshness_seconds",
    ):
        assert f"# TYPE {name.removesuffix('_total')}" in text
