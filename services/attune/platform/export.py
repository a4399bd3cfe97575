"""Spans on their way out of a process: sampled, gathered, sent to a collector by OTLP over gRPC, and counted.

Only processes that send traces load this: it needs the packages of the extra `tracing`. What else there is to set
(headers, certificates, timeouts, the size of the queue, attributes of the process) is read from the OTEL_ variables by
OpenTelemetry's own code. A collector that is away is never waited for: spans that it does not take are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind
from opentelemetry.trace.span import TraceState
from opentelemetry.util.types import Attributes

from attune.platform.tracing import TracingMetrics


def new_provider(target: str, service: str, sample_ratio: float, metrics: TracingMetrics) -> TracerProvider:
    """What makes spans and sends them to `target`. OTEL_SERVICE_NAME gives another name than attune-<service>."""
    given = OTELResourceDetector().detect()
    resource = Resource.create({SERVICE_NAME: f"attune-{service}"}).merge(given)
    provider = TracerProvider(sampler=ParentBased(LinkedOrRatio(sample_ratio)), resource=resource)
    provider.add_span_processor(Ended(metrics))
    provider.add_span_processor(BatchSpanProcessor(Counted(OTLPSpanExporter(endpoint=target), metrics)))
    return provider


class LinkedOrRatio(Sampler):
    """Keeps what links to something kept, and of the rest a share: a small share of the conversations is then seen
    whole, from the answer over the feedback to the weights, and not each part by a chance of its own."""

    def __init__(self, ratio: float) -> None:
        self._by_ratio = TraceIdRatioBased(ratio)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        is_linked = any(link.context.trace_flags.sampled for link in links or ())
        sampler: Sampler = ALWAYS_ON if is_linked else self._by_ratio
        return sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return f"LinkedOrRatio{{{self._by_ratio.rate}}}"


class Ended(SpanProcessor):
    """Counts the spans that are to be sent, so that those a full queue drops are missed among the others."""

    def __init__(self, metrics: TracingMetrics) -> None:
        self._metrics = metrics

    def on_end(self, span: ReadableSpan) -> None:
        self._metrics.spans.labels("ended").inc()


class Counted(SpanExporter):
    """Counts what an exporter takes and what it fails with."""

    def __init__(self, exporter: SpanExporter, metrics: TracingMetrics) -> None:
        self._exporter, self._metrics = exporter, metrics

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        outcome = "sent" if result is SpanExportResult.SUCCESS else "failed"
        self._metrics.spans.labels(outcome).inc(len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)
