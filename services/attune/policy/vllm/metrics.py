"""What is measured of vLLM: of each job as of the other engine's, and its own metrics passed on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import REGISTRY, Metric
from prometheus_client.registry import Collector

from attune.policy.jobs import Job, Tokens, tell
from attune.policy.metrics import PolicyMetrics


class JobMetrics:
    """The times and tokens of one job, as a context: what is not whole at its end was cancelled. `saw_end` is told of
    each completion that ended, by its tokens."""

    def __init__(self, job: Job, metrics: PolicyMetrics, saw_end: Callable[[int], None]) -> None:
        self._job, self._metrics, self._saw_end = job, metrics, saw_end
        self._left = job.sampling.completions
        self._open: Counter[int] = Counter()
        self._is_first = True

    def add(self, tokens: Tokens) -> Tokens:
        self._metrics.tokens.inc(len(tokens.token_ids))
        if self._is_first:
            tell([self._job], "first token")
            self._observe(self._metrics.first_token_s)
            self._is_first = False
        self._open[tokens.index] += len(tokens.token_ids)
        if tokens.finish_reason is not None:
            self._left -= 1
            self._saw_end(self._open.pop(tokens.index))
        return tokens

    def __enter__(self) -> JobMetrics:
        return self

    def __exit__(self, *_: object) -> None:
        if self._left:
            self._metrics.wasted.inc(self._open.total())
        else:
            self._observe(self._metrics.duration_s)

    def _observe(self, histogram: Any) -> None:
        histogram.labels(self._job.purpose.name.lower()).observe(time.monotonic() - self._job.admitted_time)


class EngineMetrics(Collector):
    """vLLM's own metrics, vllm:…, which it keeps on the registry of the interpreter."""

    def collect(self) -> Iterable[Metric]:
        return [family for family in REGISTRY.collect() if family.name.startswith("vllm:")]
