"""What the join tells Prometheus. Labels are reasons, results and topics, never ids."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

EVENTS = Counter("attune_join_events_total", "Entries of the log, by what became of them.", ["result"])
PENDING = Gauge("attune_join_pending_events", "Events that wait for a generation.")
DELAY = Histogram(
    "attune_join_delay_seconds",
    "Log time between an event and the last of its generations.",
    buckets=(0.1, 1, 5, 15, 60, 300, 1800, 3600, 6 * 3600, 86400, 3 * 86400, 7 * 86400),
)
DEAD_LETTERS = Counter("attune_dead_letters_total", "Entries set aside, by reason.", ["reason"])
LAG_RECORDS = Gauge("attune_event_lag_records", "Records of the topic that the join has not committed.", ["topic"])
LAG_SECONDS = Gauge("attune_event_lag_seconds", "Age of the oldest log time the join is still at.", ["topic"])
EXAMPLES = Counter("attune_examples_total", "Training examples written.")
FRESHNESS = Histogram(
    "attune_feedback_freshness_seconds",
    "From an event's acceptance to the first completion for a user by a promoted policy that has learned from it.",
    buckets=(1, 2, 5, 8, 12, 16, 20, 30, 45, 60, 120, 300, 900, 3600, 6 * 3600, 86400),
)
