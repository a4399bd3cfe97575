"""The caller's trace goes along with its calls: the W3C traceparent of the span in which the app makes them.

An app that has not imported OpenTelemetry has no such span, and the client neither needs nor loads it.
"""

from __future__ import annotations

import sys

from attune.client.access import Metadata


def trace_metadata() -> Metadata:
    """Of a call: traceparent, and tracestate where there is one; empty outside of a span."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None or not api.get_current_span().get_span_context().is_valid:
        return ()
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return tuple(carrier.items())
