"""The client hands the app's span on, and needs no OpenTelemetry for that."""

from __future__ import annotations

import subprocess
import sys

from attune.client.tracing import trace_metadata
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

CONTEXT = SpanContext(0xA, 0xB, False, TraceFlags(1), TraceState([("shop", "x")]))


def test_calls_go_along_with_the_span_they_are_made_in() -> None:
    assert trace_metadata() == ()
    with trace.use_span(NonRecordingSpan(CONTEXT)):
        assert trace_metadata() == (("traceparent", f"00-{0xA:032x}-{0xB:016x}-01"), ("tracestate", "shop=x"))


def test_an_app_without_opentelemetry_does_not_get_it() -> None:
    code = """
import sys
import attune.client
from attune.client.tracing import trace_metadata
assert trace_metadata() == ()
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
