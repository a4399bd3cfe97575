"""Traces of a process, by OpenTelemetry: what it was asked, what came of that, and links to what had caused it.

Off unless `exporting` (a process) or `recording` (a test) is entered, and then every function here does nothing at the
cost of one comparison. Contexts come in and go out as W3C traceparents: in the metadata of calls and the headers of
requests, and as text beside events and generations in the event log. Only what is sampled is handed on that way.

A span holds names, numbers and outcomes: never a prompt, a completion, a person, or the message of an error.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import CollectorRegistry, Counter
from pydantic import Field

from attune.domain.errors import AttuneError, ConfigurationInvalid
from attune.domain.traces import checked_traceparent
from attune.platform.config import Section

MAX_LINKS = 128
"""Most links of a span: as many as the SDK of OpenTelemetry keeps by default."""
INSTALL = "pip install 'attune[tracing]'"
ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
FAULTS = ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
"""Statuses of calls that are the server's failure and not the caller's."""

Attributes = Mapping[str, Any]
UNTRACED: Span = trace.INVALID_SPAN
"""A span that takes everything and keeps nothing."""

_propagator = TraceContextTextMapPropagator()
_tracer: Tracer | None = None


class TracingSettings(Section):
    """Where the spans of a process go."""

    endpoint: str = Field(
        "",
        pattern="^(https?://.+)?$",
        description="URL of an OTLP collector over gRPC, such as http://127.0.0.1:4317; empty: what "
        "OTEL_EXPORTER_OTLP_ENDPOINT says, and without that nothing is traced.",
    )
    sample_ratio: float = Field(1.0, ge=0, le=1, description="Share of the traces begun here that are kept.")

    def target(self, environ: Mapping[str, str] = os.environ) -> str:
        """The URL that spans are sent to; empty if nothing is traced."""
        if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
            return ""
        return self.endpoint or next(filter(None, map(environ.get, ENDPOINT_VARIABLES)), "")


class TracingMetrics:
    """What became of the spans of a process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.spans = Counter(
            "attune_trace_spans_total",
            "Spans that ended, were sent, or failed to be; the rest waits, or was dropped by a full queue.",
            ["outcome"],
            registry=registry,
        )


# The life of it


@contextmanager
def exporting(settings: TracingSettings, service: str, registry: CollectorRegistry) -> Iterator[None]:
    """Traces this process as `attune-<service>` and sends the spans off, if the settings or the environment name a
    collector; leaving sends what is left. ConfigurationInvalid if the packages for that are missing."""
    target = settings.target()
    if not target:
        yield
        return
    try:
        export = importlib.import_module("attune.platform.export")
    except ModuleNotFoundError as error:
        raise ConfigurationInvalid(f"traces are to go to {target}, but {error.name} is missing: {INSTALL}") from None
    provider = export.new_provider(target, service, settings.sample_ratio, TracingMetrics(registry))
    try:
        with recording(provider):
            yield
    finally:
        provider.shutdown()


@contextmanager
def recording(provider: TracerProvider) -> Iterator[None]:
    """Everything here is traced by `provider` meanwhile."""
    global _tracer
    before, _tracer = _tracer, provider.get_tracer("attune")
    try:
        yield
    finally:
        _tracer = before


def is_on() -> bool:
    return _tracer is not None


# Spans


@contextmanager
def span(name: str, *, links: Sequence[Link] = (), attributes: Attributes | None = None) -> Iterator[Span]:
    """A step of the work, below the span that is current, and current itself."""
    if _tracer is None:
        yield UNTRACED
        return
    with _tracer.start_as_current_span(
        name, links=links, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current
        except Exception as error:
            fail(current, error.reason if isinstance(error, AttuneError) else type(error).__name__)
            raise


def begin(name: str, attributes: Attributes | None = None) -> Span:
    """A span below the current one that does not become current, for work that yields; its maker ends it."""
    return UNTRACED if _tracer is None else _tracer.start_span(name, attributes=attributes)


def completed(name: str, started_ns: int, links: Sequence[Link], attributes: Attributes) -> None:
    """A span of work that is done, from `started_ns` (Unix time) until now."""
    if _tracer is not None:
        _tracer.start_span(name, start_time=started_ns, links=links, attributes=attributes).end()


def begin_call(
    name: str, carrier: Iterable[tuple[str, Any]] | Mapping[str, str], attributes: Attributes, *, may_begin: bool
) -> Span:
    """The span of a call that is served, in the trace that its metadata or headers name, and current from here on in
    this task. Without `may_begin` a call that comes in no trace makes none."""
    if _tracer is None:
        return UNTRACED
    pairs = carrier.items() if isinstance(carrier, Mapping) else carrier
    found = {key.lower(): value for key, value in pairs if key.lower() in _propagator.fields}
    context = _propagator.extract(found)
    if not may_begin and not trace.get_current_span(context).get_span_context().is_valid:
        return UNTRACED
    served = _tracer.start_span(name, context=context, kind=SpanKind.SERVER, attributes=attributes)
    contexts.attach(trace.set_span_in_context(served, context))
    return served


def end_call(served: Span, status: str) -> None:
    """Ends it with the name of a gRPC status."""
    served.set_attribute("rpc.response.status_code", status)
    if status in FAULTS:
        fail(served, status)
    served.end()


def note(attributes: Attributes) -> None:
    """More of the current span."""
    if _tracer is not None:
        trace.get_current_span().set_attributes(attributes)


def fail(failed: Span, reason: str) -> None:
    """Marks a span as failed; `reason` is of a closed set, never the message of an error."""
    failed.set_status(Status(StatusCode.ERROR, reason))


# Contexts as text


def traceparent(of: Span | None = None) -> str:
    """That of a span, by default the current one; empty if nothing keeps it."""
    if _tracer is None:
        return ""
    found = (trace.get_current_span() if of is None else of).get_span_context()
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-01" if found.trace_flags.sampled else ""


def links_to(traceparents: Iterable[str]) -> list[Link]:
    """Links to the spans of these, each once, the first MAX_LINKS of them; what is no traceparent is left out."""
    links: dict[str, Link] = {}
    for text in traceparents:
        if len(links) == MAX_LINKS:
            break
        if text not in links and checked_traceparent(text):
            context = _propagator.extract({"traceparent": text}, contexts.Context())
            links[text] = Link(trace.get_current_span(context).get_span_context())
    return list(links.values())
