"""What a reward server measures, as Prometheus metrics. Set by the scorer and the followed revisions."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from attune.modeling.served import SwapMetrics

DURATION_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
PAIR_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class RewardMetrics(SwapMetrics):
    """All metrics of one reward server, in the registry it is given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__("reward", registry)
        self.pairs = Counter("attune_score_pairs_total", "Pairs scored and answered.", registry=registry)
        self.duration = Histogram(
            "attune_score_duration_seconds",
            "Time of the model for one batch.",
            buckets=DURATION_BUCKETS_S,
            registry=registry,
        )
        self.batch_pairs = Histogram(
            "attune_score_batch_pairs", "Pairs of one batch.", buckets=PAIR_BUCKETS, registry=registry
        )
        self.queue_pairs = Gauge("attune_score_queue_pairs", "Pairs admitted and not yet scored.", registry=registry)
