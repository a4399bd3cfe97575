"""What is measured of a job, and that of vLLM's interpreter-wide metrics only its own are passed on."""

from __future__ import annotations

from attune.domain.generations import FinishReason, Purpose, Sampling
from attune.modeling.revisions import Held
from attune.policy.jobs import Job, Tokens
from attune.policy.metrics import PolicyMetrics
from attune.policy.vllm.metrics import EngineMetrics, JobMetrics
from prometheus_client import REGISTRY, CollectorRegistry, Gauge

HELD, LENGTH = Held("policies/support/revisions/1", None), FinishReason.LENGTH


def test_what_a_job_took_is_measured_and_what_was_cancelled_is_waste() -> None:
    registry = CollectorRegistry()
    metrics, ended = PolicyMetrics(registry), []
    for ends in ((LENGTH, LENGTH), (LENGTH, None)):
        with JobMetrics(Job(HELD, (5,), Sampling(completions=2), Purpose.USER), metrics, ended.append) as measured:
            for index, end in enumerate(ends):
                measured.add(Tokens(index, (5, 6), (-1.5, -0.5), end))
    samples = [
        registry.get_sample_value(f"attune_generation_{name}", labels)
        for name, labels in (
            ("tokens_total", {}),
            ("wasted_tokens_total", {}),
            ("duration_seconds_count", {"purpose": "user"}),
            ("time_to_first_token_seconds_count", {"purpose": "user"}),
        )
    ]
    assert samples == [8, 2, 1, 2]
    assert ended == [2, 2, 2]


def test_only_vllms_own_metrics_are_passed_on() -> None:
    own = Gauge("vllm:requests", "of a test")
    try:
        passed = CollectorRegistry()
        passed.register(EngineMetrics())
        own.set(3)
        assert passed.get_sample_value("vllm:requests") == 3
        assert passed.get_sample_value("python_info") is None
    finally:
        REGISTRY.unregister(own)
