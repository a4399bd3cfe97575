"""What ingest measures, as Prometheus metrics. Labels are kinds and outcomes, never ids."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Histogram

ACK_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


ACKNOWLEDGED = ("accepted", "repeated")


class IngestMetrics:
    """All metrics of one ingest server, in the registry it is given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = Counter(
            "attune_feedback_events_total",
            "Feedback events received, by kind and what became of them.",
            ["kind", "outcome"],
            registry=registry,
        )
        self.ack_duration = Histogram(
            "attune_feedback_ack_duration_seconds",
            "From the arrival of events to the acknowledgement they share, the durable write included.",
            buckets=ACK_BUCKETS_S,
            registry=registry,
        )
        self.repeated = Counter(
            "attune_feedback_repeated_total", "Events known already, acknowledged without a write.", registry=registry
        )
        self.conflicts = Counter(
            "attune_feedback_conflicts_total",
            "Event ids used again for another body, by where it was seen.",
            ["where"],
            registry=registry,
        )
        self._counter = cache(self.events.labels)

    def count(self, found: Mapping[tuple[str, str], int], duration_s: float) -> None:
        """Events by kind and outcome that were answered together, and how long the first of them waited."""
        for (kind, outcome), number in found.items():
            self._counter(kind, outcome).inc(number)
            if outcome == "repeated":
                self.repeated.inc(number)
            elif outcome == "conflict":
                self.conflicts.labels("ingest").inc(number)
        if any(outcome in ACKNOWLEDGED for _, outcome in found):
            self.ack_duration.observe(duration_s)
