"""What a policy server measures, as Prometheus metrics. Revisions stand only on the info metric."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from attune.modeling.served import SwapMetrics

FROZEN_BUCKETS_S = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5)
BUCKETS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class PolicyMetrics(SwapMetrics):
    """All metrics of one policy server, on the registry it is given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__("policy", registry)
        self.tokens = Counter("attune_generation_tokens", "Tokens written", registry=registry)
        self.requests = Counter(
            "attune_generation_requests",
            "Generations by purpose and outcome",
            ["purpose", "outcome"],
            registry=registry,
        )
        for purpose in ("user", "rollout"):
            self.requests.labels(purpose, "written")  # stands from the start: the first increase must not be missed
        self.queued = Gauge(
            "attune_generation_queue_completions", "Completions waiting", ["purpose"], registry=registry
        )
        self.running = Gauge("attune_generation_running_completions", "Completions being written", registry=registry)
        self.duration_s = Histogram(
            "attune_generation_duration_seconds",
            "From admission to the last token of a generation",
            ["purpose"],
            registry=registry,
            buckets=BUCKETS_S,
        )
        self.first_token_s = Histogram(
            "attune_generation_time_to_first_token_seconds",
            "From admission to the first token of a generation",
            ["purpose"],
            registry=registry,
            buckets=BUCKETS_S,
        )
        self.frozen_s = Histogram(
            "attune_generation_frozen_seconds",
            "Longest that running completions stood still at a load or swap of weights",
            registry=registry,
            buckets=FROZEN_BUCKETS_S,
        )
        self.wasted = Counter("attune_generation_wasted_tokens", "Tokens of cancelled completions", registry=registry)
        self.unrecorded = Counter(
            "attune_generations_unrecorded", "Served without the event log having it", ["reason"], registry=registry
        )
        for reason in ("queue_full", "log_slow"):
            self.unrecorded.labels(reason)
