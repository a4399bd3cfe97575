"""What ingest tells Prometheus. Labels are kinds and outcomes, never ids."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

EVENTS = Counter(
    "attune_feedback_events_total", "Feedback events received, by what became of them.", ["kind", "outcome"]
)
ACK_DURATION = Histogram(
    "attune_feedback_ack_duration_seconds",
    "From the arrival of an event to its acknowledgement, the durable write included.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
REPEATED = Counter("attune_feedback_repeated_total", "Events that ingest knew already, acknowledged without a write.")
QUEUED = Gauge("attune_feedback_queued_events", "Events that wait for the next write to the event log.")
