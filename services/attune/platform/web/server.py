"""The HTTP server of one door: TLS, limits, errors in one form, what browsers must be told, health, a stop that drains.

A request is checked from outside in: origin, room, size; then its route answers. An AttuneError leaves in the form that
the door gives errors. A request has `timeout_s` until its answer begins; an answer that is a stream bounds itself.
Nothing a request holds is logged. With tracing on a request has a span, below the one that its headers name. GET
/v1/health says whether the door serves.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import CollectorRegistry, Counter, Histogram

from attune.domain.errors import AttuneError, DeadlineExceeded, InvalidInput, PermissionDenied, QueueFull
from attune.platform import tracing
from attune.platform.deadline import set_deadline
from attune.platform.web.refusals import refused
from attune.platform.web.settings import HttpLimits

log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Refuse = Callable[[AttuneError | web.HTTPException], web.Response]
BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
RETRY_AFTER_S = 1.0
CALLER_GONE = 499
"""The status under which a request is measured whose caller went before the answer; nobody is sent it."""
HEALTH = "/v1/health"
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Max-Age": "600",
}
_LIMIT = web.RequestKey("limit", asyncio.Timeout)


class HttpMetrics:
    """Requests by route and status, and what was none."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.duration = Histogram(
            "attune_http_duration_seconds",
            "Duration of HTTP requests by route and status.",
            ["route", "status"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self.malformed = Counter(
            "attune_http_malformed_total", "Requests that were no HTTP, refused unread.", registry=registry
        )


@asynccontextmanager
async def within(timeout_s: float) -> AsyncIterator[asyncio.Timeout]:
    """Ends what takes longer as DeadlineExceeded. A TimeoutError of something inside stays unexpected."""
    limit = asyncio.timeout(timeout_s)
    try:
        async with limit:
            yield limit
    except TimeoutError:
        if not limit.expired():
            raise
        raise DeadlineExceeded("the time was over before the answer was ready") from None


class HttpServer:
    """See the module. `refuse` gives errors their form; `shown_headers` are those that scripts of pages may read.
    With `cancels` a request ends when its caller goes. With a context for it, `tls`, the door speaks TLS."""

    def __init__(
        self,
        routes: Sequence[web.AbstractRouteDef],
        limits: HttpLimits,
        metrics: HttpMetrics,
        *,
        tls: ssl.SSLContext | None = None,
        refuse: Refuse = refused,
        shown_headers: Sequence[str] = (),
        cancels: bool = False,
    ) -> None:
        self._limits, self._metrics, self._tls, self._refuse = limits, metrics, tls, refuse
        self._for_pages = {
            "Vary": "Origin",
            "Access-Control-Expose-Headers": ", ".join(["Retry-After", *shown_headers]),
        }
        self._is_serving = False
        app = web.Application(middlewares=[self._serve], client_max_size=limits.max_body_bytes)
        app.add_routes([*routes, web.get(HEALTH, self._health)])
        app.on_response_prepare.append(self._begin)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=limits.grace_s, logger=log, handler_cancellation=cancels
        )
        self.address = ""
        self.running = 0
        """Requests that are being served."""

    def _is_ours(self, record: logging.LogRecord) -> bool:
        """Whether aiohttp logs a fault of this server. What was no HTTP it has answered with 400; that is counted and
        not logged, for its text holds what the caller sent."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            self._metrics.malformed.inc()
            return False
        return True

    async def start(self, host: str, port: int) -> None:
        """Listens; `address` then says where, for port 0 takes a free one. OSError if the port is taken."""
        log.addFilter(self._is_ours)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, ssl_context=self._tls).start()
        self.address = "{}:{}".format(*self._runner.addresses[0][:2])

    def set_serving(self, is_serving: bool) -> None:
        """What health says from now on, so that callers come or go elsewhere; requests are served either way."""
        self._is_serving = is_serving

    async def stop(self, notice_s: float = 0.0) -> None:
        """NOT_SERVING; after `notice_s`, in which who sends requests here may hear of it, no new ones; then those that
        run may take `grace_s` to end."""
        self.set_serving(False)
        await asyncio.sleep(notice_s)
        await self._runner.cleanup()
        log.removeFilter(self._is_ours)

    @web.middleware
    async def _serve(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Around every request: an answer of one form and in time, the measure, and the trace."""
        started, status, span = time.monotonic(), 500, _begin_span(request)
        try:
            response = await self._answer(request, handler)
            status = response.status
            return response
        except asyncio.CancelledError:
            status = CALLER_GONE
            raise
        finally:
            self._metrics.duration.labels(_route(request), str(status)).observe(time.monotonic() - started)
            _end_span(span, status)

    async def _begin(self, request: web.Request, response: web.StreamResponse) -> None:
        """Before the first byte of an answer: what browsers must be told, and the end of the wait for it."""
        if (origin := request.headers.get("Origin")) and self._may_call(origin):
            response.headers.update({"Access-Control-Allow-Origin": origin} | self._for_pages)
        if (limit := request.get(_LIMIT)) is not None:
            limit.reschedule(None)

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            with self._admitted(request):
                if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
                    return web.Response(status=204, headers=PREFLIGHT)
                return await self._in_time(request, handler)
        except (AttuneError, web.HTTPException) as error:
            return self._refuse(error)
        except (aiohttp.ClientPayloadError, web.RequestPayloadError, ConnectionResetError) as error:
            return self._refuse(InvalidInput(f"the body cannot be read: {error}"))

    async def _in_time(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        set_deadline(self._limits.timeout_s)
        async with within(self._limits.timeout_s) as limit:
            request[_LIMIT] = limit
            try:
                return await handler(request)
            finally:
                del request[_LIMIT]

    @contextmanager
    def _admitted(self, request: web.Request) -> Iterator[None]:
        """A place among the running requests, for callers that may come from where they come."""
        origin = request.headers.get("Origin")
        if origin and not self._may_call(origin):
            raise PermissionDenied(f"pages of {origin} may not call: http.origins does not name it")
        if self.running >= self._limits.max_requests:
            raise QueueFull(f"{self.running} requests run already", retry_after_s=RETRY_AFTER_S)
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1

    def _may_call(self, origin: str) -> bool:
        return origin in self._limits.origins or "*" in self._limits.origins

    async def _health(self, request: web.Request) -> web.Response:
        said = "SERVING" if self._is_serving else "NOT_SERVING"
        return web.json_response({"status": said}, status=200 if self._is_serving else 503)


def _route(request: web.Request) -> str:
    """As it was declared, so that there are no more of them than routes."""
    route = request.match_info.route.resource
    return route.canonical if route else "other"


def _begin_span(request: web.Request) -> tracing.Span:
    """That of a request to a route of the door, current in the task of the request."""
    route = _route(request)
    if not tracing.is_on() or route in (HEALTH, "other"):
        return tracing.UNTRACED
    attributes = {"http.request.method": request.method, "http.route": route}
    return tracing.begin_call(f"{request.method} {route}", request.headers, attributes, may_begin=True)


def _end_span(span: tracing.Span, status: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        tracing.fail(span, str(status))
    span.end()
