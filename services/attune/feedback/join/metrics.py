"""What the join measures, as Prometheus metrics. Labels are reasons, results and topics, never ids."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

HOUR_S = 3600
DAY_S = 24 * HOUR_S
DELAY_BUCKETS_S = (0.1, 1, 5, 15, 60, 300, 1800, HOUR_S, 6 * HOUR_S, DAY_S, 3 * DAY_S, 7 * DAY_S)
FRESHNESS_BUCKETS_S = (1, 2, 5, 8, 12, 16, 20, 30, 45, 60, 120, 300, 900, HOUR_S, 6 * HOUR_S, DAY_S)
RESULTS = (
    "generation", "generation_duplicate", "generation_erased", "pending", "joined", "superseded", "conflict",
    "duplicate", "expired", "erased",
)  # fmt: skip
REASONS = (
    "RECORD_GARBLED", "ENTRY_INVALID", "ROLLOUT_RECORDED", "GENERATION_ID_REUSED", "BODY_DIFFERS", "PROMPTS_DIFFER",
    "COMPLETION_UNKNOWN",
)  # fmt: skip


class JoinMetrics:
    """All metrics of one join, in the registry it is given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = Counter(
            "attune_join_events_total", "Entries of the log, by what became of them.", ["result"], registry=registry
        )
        for result in RESULTS:
            self.events.labels(result)  # stands from the start: the first increase must not be missed
        self.pending = Gauge("attune_join_pending_events", "Events that wait for a generation.", registry=registry)
        self.delay = Histogram(
            "attune_join_delay_seconds",
            "Log time between an event and the last of its generations.",
            buckets=DELAY_BUCKETS_S,
            registry=registry,
        )
        self.dead_letters = Counter(
            "attune_dead_letters_total", "Entries set aside, by reason.", ["reason"], registry=registry
        )
        for reason in REASONS:
            self.dead_letters.labels(reason)
        self.conflicts = Counter(
            "attune_feedback_conflicts_total",
            "Event ids used again for another body, by where it was seen.",
            ["where"],
            registry=registry,
        )
        self.lag_records = Gauge(
            "attune_event_lag_records", "Records of a topic not yet committed.", ["topic"], registry=registry
        )
        self.lag_seconds = Gauge(
            "attune_event_lag_seconds", "Age of the log time that a topic is read up to.", ["topic"], registry=registry
        )
        self.log_unavailable = Counter(
            "attune_event_log_unavailable_total",
            "Times the event log could not be read or written; each is tried again.",
            registry=registry,
        )
        self.examples = Counter("attune_examples_total", "Training examples written.", registry=registry)
        self.freshness = Histogram(
            "attune_feedback_freshness_seconds",
            "From an event's acceptance to the first answer to a user by a promoted policy that has learned from it.",
            buckets=FRESHNESS_BUCKETS_S,
            registry=registry,
        )
