"""Spans and contexts as text; off, nothing; who asks for an export without its packages is told what to install."""

from __future__ import annotations

import sys

import pytest
from attune.domain.errors import ConfigurationInvalid, QueueFull
from attune.platform import tracing
from attune.platform.tracing import TracingMetrics, TracingSettings
from opentelemetry.trace import StatusCode
from prometheus_client import CollectorRegistry
from pydantic import ValidationError
from support.tracing import links_of, recorded, trace_of, traceparent_of

TRACE = "0af7651916cd43dd8448eb211c80319c"


def a_traceparent(number: int, flags: str = "01") -> str:
    return f"00-{TRACE}-{number:016x}-{flags}"


async def test_off_nothing_is_made_and_nothing_is_handed_on() -> None:
    with tracing.span("step", links=tracing.links_to([a_traceparent(1)])) as span:
        assert span is tracing.UNTRACED
        assert tracing.traceparent() == ""
    assert tracing.begin("step") is tracing.UNTRACED
    headers = {"traceparent": a_traceparent(1)}
    assert tracing.begin_call("call", headers, {}, may_begin=True) is tracing.UNTRACED
    tracing.note({"a": 1})
    tracing.completed("done", 0, [], {})
    assert not tracing.is_on()


def test_a_step_stands_below_the_one_that_is_current() -> None:
    with recorded() as spans:
        with tracing.span("outer") as outer, tracing.span("inner", attributes={"n": 1}):
            tracing.note({"m": 2})
            assert tracing.traceparent(outer) != tracing.traceparent()
        assert not tracing.traceparent()
    inner, outer_span = spans.one("inner"), spans.one("outer")
    assert inner.parent is not None
    assert inner.parent.span_id == outer_span.context.span_id
    assert inner.attributes == {"n": 1, "m": 2}


def test_a_failure_is_marked_with_its_reason_and_not_with_its_words() -> None:
    with recorded() as spans:
        with pytest.raises(QueueFull), tracing.span("refused"):
            raise QueueFull("what somebody asked", retry_after_s=1)
        with pytest.raises(KeyError), tracing.span("broken"):
            raise KeyError("what somebody asked")
    for name, reason in (("refused", "QUEUE_FULL"), ("broken", "KeyError")):
        span = spans.one(name)
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, reason)
        assert "somebody" not in span.to_json()


def test_links_are_bounded_each_once_and_only_to_what_is_a_span() -> None:
    many = [a_traceparent(n) for n in range(1, 500)]
    assert len(tracing.links_to(["", "garbage", *many])) == tracing.MAX_LINKS
    with recorded() as spans:
        tracing.completed("join", 1, tracing.links_to([many[0], many[0], "garbage", many[1]]), {"n": 2})
    assert links_of(spans.one("join")) == many[:2]
    assert spans.one("join").start_time == 1


@pytest.mark.parametrize("flags", ["01", "00"])
async def test_a_call_goes_on_with_the_trace_it_comes_in_kept_or_not(flags: str) -> None:
    with recorded() as spans:
        served = tracing.begin_call("call", [("Traceparent", a_traceparent(7, flags))], {}, may_begin=False)
        inside = tracing.traceparent()
        tracing.end_call(served, "OK")
    assert inside == (traceparent_of(spans.one("call")) if flags == "01" else "")
    if flags == "01":
        assert trace_of(spans.one("call")) == int(TRACE, 16)


async def test_a_call_that_comes_in_no_trace_begins_one_where_it_may() -> None:
    with recorded() as spans:
        assert tracing.begin_call("poll", {"traceparent": "garbage"}, {}, may_begin=False) is tracing.UNTRACED
        tracing.end_call(tracing.begin_call("call", {}, {}, may_begin=True), "UNAVAILABLE")
    assert [span.name for span in spans.all()] == ["call"]
    assert spans.one("call").status.status_code is StatusCode.ERROR


def test_without_a_collector_nothing_is_traced() -> None:
    assert TracingSettings().target({}) == ""
    assert TracingSettings().target({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}) == "http://c:4317"
    assert (
        TracingSettings(endpoint="http://d:1").target({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}) == "http://d:1"
    )
    assert TracingSettings(endpoint="http://d:1").target({"OTEL_SDK_DISABLED": "true"}) == ""
    with pytest.raises(ValidationError):
        TracingSettings(endpoint="127.0.0.1:4317")
    with tracing.exporting(TracingSettings(), "policy", CollectorRegistry()):
        assert not tracing.is_on()


def test_an_export_without_its_packages_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "attune.platform.export", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    settings = TracingSettings(endpoint="http://127.0.0.1:4317")
    with (
        pytest.raises(ConfigurationInvalid, match=r"pip install 'attune\[tracing\]'"),
        tracing.exporting(settings, "policy", CollectorRegistry()),
    ):
        pass


def test_metrics_have_a_registry_of_their_own() -> None:
    registry = CollectorRegistry()
    TracingMetrics(registry).spans.labels("sent").inc(3)
    assert registry.get_sample_value("attune_trace_spans_total", {"outcome": "sent"}) == 3
