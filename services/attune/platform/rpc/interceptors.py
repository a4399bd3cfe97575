"""The one server interceptor: keys, deadlines, errors as google.rpc.Status, metrics, traces. Every RPC passes here.

A call must bring a key for what its port is there for, unless the server asks for none. A call without a deadline is
refused, one with a longer deadline than is allowed is cut to it; callers of the Open Inference Protocol, whose clients
set none unless they are told, get the longest instead. Health and reflection are exempt from both: probes have no keys,
and what reflection tells is published. An AttuneError goes out by its row in attune.domain.errors; anything else
becomes INTERNAL with an id, and what happened goes only to the log. CancelledError rises, always: swallowing it leaks
the call.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from functools import cache
from typing import Any

import grpc
from prometheus_client import CollectorRegistry, Counter, Histogram

from attune.domain.access import ANYBODY, Identity, Scope
from attune.domain.errors import AttuneError, DeadlineExceeded, DeadlineRequired
from attune.domain.status import to_status
from attune.platform import tracing
from attune.platform.access.keys import KeyStore
from attune.platform.deadline import set_deadline
from attune.platform.tracing import UNTRACED

log = logging.getLogger(__name__)
EXEMPT = ("/grpc.health.v1.", "/grpc.reflection.")
DEADLINE_OPTIONAL = "/inference."
BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)

_identity: ContextVar[Identity] = ContextVar("identity", default=ANYBODY)


def caller() -> Identity:
    """Who makes the call being served."""
    return _identity.get()


class RpcMetrics:
    """Calls started, and their duration by status."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.started = Counter("attune_rpc_started", "RPCs started", ["method"], registry=registry)
        self.duration_s = Histogram(
            "attune_rpc_duration_seconds",
            "Duration of RPCs by method and status",
            ["method", "status"],
            registry=registry,
            buckets=BUCKETS_S,
        )
        self.started_of, self.duration_of = cache(self.started.labels), cache(self.duration_s.labels)


class _Measured:
    """Counts one call and its duration by status, and traces it: once, before its refusal goes out or else at its
    end. A call of the control port is traced as part of a trace only, for pollers would make no end of them."""

    def __init__(
        self, metrics: RpcMetrics, method: str, context: grpc.aio.ServicerContext, *, may_begin_trace: bool
    ) -> None:
        self._metrics, self._method, self._context = metrics, method, context
        self._may_begin_trace = may_begin_trace
        self._has_ended = False

    def __enter__(self) -> _Measured:
        self._metrics.started_of(self._method).inc()
        self._started = time.monotonic()
        self._span = UNTRACED
        if tracing.is_on():
            name = self._method.removeprefix("/")
            attributes = {"rpc.system": "grpc", "rpc.method": name}
            metadata = self._context.invocation_metadata() or ()
            self._span = tracing.begin_call(name, metadata, attributes, may_begin=self._may_begin_trace)
        return self

    def end(self, status: str) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._metrics.duration_of(self._method, status).observe(time.monotonic() - self._started)
            tracing.end_call(self._span, status)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # GeneratorExit when the caller went while a response was sent
        has_gone = kind is not None and issubclass(kind, asyncio.CancelledError | GeneratorExit)
        self.end("CANCELLED" if has_gone else "OK")


class _Within:
    """Ends a call at its deadline. A TimeoutError of something the servicer waited for stays unexpected."""

    def __init__(self, context: grpc.aio.ServicerContext, method: str, max_deadline_s: float) -> None:
        left = context.time_remaining()
        if left is None and not method.startswith(DEADLINE_OPTIONAL):
            raise DeadlineRequired("set a deadline on the call, such as timeout=10 in Python")
        allowed = max_deadline_s if left is None else min(left, max_deadline_s)
        set_deadline(allowed)
        self._limit = asyncio.timeout(allowed)

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()

    async def __aexit__(self, *raised: Any) -> None:
        try:
            await self._limit.__aexit__(*raised)
        except TimeoutError as error:
            raise DeadlineExceeded("the deadline passed before the answer was ready") from error


class ServerInterceptor(grpc.aio.ServerInterceptor):
    """See the module. Each method is wrapped once. `max_stream_s` is the longest deadline of a stream of requests.
    Keys of `keys` must have been made for `scope`."""

    def __init__(
        self, metrics: RpcMetrics, keys: KeyStore, scope: Scope, *, max_deadline_s: float, max_stream_s: float
    ) -> None:
        self._metrics, self._keys, self._scope = metrics, keys, scope
        self._begins_traces = scope is not Scope.CONTROL
        self._max_deadline_s, self._max_stream_s = max_deadline_s, max_stream_s
        self._wrapped: dict[str, grpc.RpcMethodHandler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        if (wrapped := self._wrapped.get(details.method)) is not None:
            return wrapped
        handler = await continuation(details)
        if handler is None:
            self._metrics.started.labels("other").inc()
            return handler
        if details.method.startswith(EXEMPT):
            return handler
        wrap = self._wrap_stream if handler.response_streaming else self._wrap_unary
        limit_s = self._max_stream_s if handler.request_streaming else self._max_deadline_s
        behaviour = wrap(details.method, _behaviour(handler), limit_s)
        wrapped = self._wrapped[details.method] = _handler_like(handler, behaviour)
        return wrapped

    def _wrap_unary(self, method: str, behaviour: Callable[..., Any], limit_s: float) -> Callable[..., Any]:
        async def served(request: Any, context: grpc.aio.ServicerContext) -> Any:
            with self._measured(method, context) as measured:
                try:
                    self._identify(context)
                    async with _Within(context, method, limit_s):
                        return await behaviour(request, context)
                except Exception as error:
                    await self._refuse(method, error, context, measured)

        return served

    def _wrap_stream(self, method: str, behaviour: Callable[..., Any], limit_s: float) -> Callable[..., Any]:
        async def served(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
            with self._measured(method, context) as measured:
                try:
                    self._identify(context)
                    async with _Within(context, method, limit_s):
                        async for response in behaviour(request, context):
                            yield response
                except Exception as error:
                    await self._refuse(method, error, context, measured)

        return served

    def _measured(self, method: str, context: grpc.aio.ServicerContext) -> _Measured:
        return _Measured(self._metrics, method, context, may_begin_trace=self._begins_traces)

    def _identify(self, context: grpc.aio.ServicerContext) -> None:
        if not self._keys.is_open:
            sent = (value for key, value in context.invocation_metadata() or () if key == "authorization")
            _identity.set(self._keys.identity(next(sent, None), self._scope))

    async def _refuse(
        self, method: str, error: Exception, context: grpc.aio.ServicerContext, measured: _Measured
    ) -> None:
        """Ends the call with the status of the error; raises."""
        if isinstance(error, grpc.aio.AbortError):
            measured.end(context.code().name if hasattr(context.code(), "name") else "UNKNOWN")
            raise error
        known = _as_attune_error(method, error)
        measured.end(known.status)
        metadata = [("grpc-status-details-bin", to_status(known).SerializeToString())]
        if known.retry_after_s is not None:
            metadata.append(("grpc-retry-pushback-ms", str(round(known.retry_after_s * 1000))))
        await context.abort(grpc.StatusCode[known.status], known.message, tuple(metadata))


def _as_attune_error(method: str, error: Exception) -> AttuneError:
    if isinstance(error, AttuneError):
        return error
    incident = uuid.uuid4().hex
    log.error("unexpected failure %s in %s", incident, method, exc_info=error)
    return AttuneError(f"internal error {incident}", metadata={"incident": incident})


def _behaviour(handler: grpc.RpcMethodHandler) -> Callable[..., Any]:
    return handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream


def _handler_like(handler: grpc.RpcMethodHandler, behaviour: Callable[..., Any]) -> grpc.RpcMethodHandler:
    kinds = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    make = kinds[(handler.request_streaming, handler.response_streaming)]
    return make(behaviour, handler.request_deserializer, handler.response_serializer)
