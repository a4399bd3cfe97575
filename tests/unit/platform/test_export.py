"""Spans as a real OTLP service receives them, what is kept of them, and a collector that is away."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from attune.platform import tracing
from attune.platform.export import LinkedOrRatio
from attune.platform.tracing import TracingSettings
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from prometheus_client import CollectorRegistry
from support.processes import free_port
from support.tracing import recorded

KEPT, UNKEPT = (f"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}" for flags in ("01", "00"))


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.received: list[trace_service_pb2.ExportTraceServiceRequest] = []

    def Export(self, request, context) -> trace_service_pb2.ExportTraceServiceResponse:
        self.received.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    server, kept = grpc.server(ThreadPoolExecutor(1)), Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(kept, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield kept, f"http://127.0.0.1:{port}"
    server.stop(0).wait()


def count(registry: CollectorRegistry, outcome: str) -> float:
    return registry.get_sample_value("attune_trace_spans_total", {"outcome": outcome}) or 0.0


@pytest.mark.parametrize("by_variable", [False, True])
def test_a_collector_gets_the_spans_of_the_process(
    collector: tuple[Collector, str], monkeypatch: pytest.MonkeyPatch, by_variable: bool
) -> None:
    kept, url = collector
    registry = CollectorRegistry()
    if by_variable:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    settings = TracingSettings() if by_variable else TracingSettings(endpoint=url)
    with (
        tracing.exporting(settings, "policy", registry),
        tracing.span("step", links=tracing.links_to([KEPT]), attributes={"attune.step": 3}),
    ):
        assert tracing.traceparent()
    assert not tracing.is_on()
    (resource,) = [resource for request in kept.received for resource in request.resource_spans]
    names = {a.key: a.value.string_value for a in resource.resource.attributes}
    assert names["service.name"] == "attune-policy"
    assert names.get("deployment.environment.name") == ("test" if by_variable else None)
    (span,) = [span for scope in resource.scope_spans for span in scope.spans]
    assert span.name == "step"
    assert [link.trace_id.hex() for link in span.links] == ["0af7651916cd43dd8448eb211c80319c"]
    assert (count(registry, "ended"), count(registry, "sent"), count(registry, "failed")) == (1, 1, 0)


def test_a_collector_that_is_away_holds_nothing_up_and_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0.1")
    registry = CollectorRegistry()
    with tracing.exporting(TracingSettings(endpoint=f"http://127.0.0.1:{free_port()}"), "join", registry):
        for _ in range(3):
            tracing.begin("step").end()
    assert (count(registry, "ended"), count(registry, "sent"), count(registry, "failed")) == (3, 0, 3)


@pytest.mark.parametrize(("links", "kept"), [([], 0), ([UNKEPT], 0), ([UNKEPT, KEPT], 1)])
def test_what_links_to_something_kept_is_kept(links: list[str], kept: int) -> None:
    with recorded(ratio=0.0) as spans:
        with tracing.span("step", links=tracing.links_to(links)), tracing.span("part of it"):
            assert bool(tracing.traceparent()) == bool(kept)
        assert len(spans.named("step")) == len(spans.named("part of it")) == kept


def test_of_the_rest_a_share_is_kept() -> None:
    with recorded(ratio=0.5) as spans:
        for _ in range(400):
            tracing.begin("step").end()
    assert 120 < len(spans.all()) < 280
    assert LinkedOrRatio(0.5).get_description() == "LinkedOrRatio{0.5}"
