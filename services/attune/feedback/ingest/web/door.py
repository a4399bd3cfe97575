"""The HTTP door: POST /v1/feedback and /v1/feedback:batch, health, and the OpenAPI document.

A request is checked from outside in: origin, credential, size, JSON, the event itself. What comes through goes into the
intake, as from gRPC, and is acknowledged by the same rule. Answers of a batch are 200 with a status an event; anything
else says by its code what became of it. Every request ends within `timeout_s`. Nothing a request holds is logged.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from google.protobuf.message import Message

from attune.api.feedback.v1 import feedback_pb2
from attune.api.types.v1.feedback_pb2 import FeedbackEvent as Event
from attune.domain.errors import AttuneError, DeadlineExceeded, InvalidInput, PermissionDenied, QueueFull
from attune.feedback.ingest.acceptor import RETRY_AFTER_S, Outcome
from attune.feedback.ingest.answers import Answers
from attune.feedback.ingest.caller import Caller
from attune.feedback.ingest.intake import MAX_EVENTS, Intake
from attune.feedback.ingest.metrics import IngestMetrics
from attune.feedback.ingest.web.bodies import read_event, read_json, to_json, without_prefix
from attune.feedback.ingest.web.credentials import Credentials
from attune.feedback.ingest.web.refusals import refusal, refusal_of_http

log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
OPENAPI = resources.files("attune.feedback.ingest.web").joinpath("openapi.json")
FOR_PAGES = {"Vary": "Origin", "Access-Control-Expose-Headers": "Retry-After"}
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Max-Age": "600",
}


class HttpDoor:
    """See the module. `origins` are those of pages whose browsers may call; "*" is every page. With a
    context for it, the door speaks TLS."""

    def __init__(
        self,
        intake: Intake,
        credentials: Credentials,
        metrics: IngestMetrics,
        *,
        origins: Collection[str] = (),
        max_body_bytes: int = 1024 * 1024,
        max_requests: int = 256,
        timeout_s: float = 10.0,
        grace_s: float = 10.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._intake, self._credentials, self._metrics = intake, credentials, metrics
        self._origins, self._timeout_s, self._max_requests = frozenset(origins), timeout_s, max_requests
        self._is_serving, self._tls = False, tls
        app = web.Application(middlewares=[self._serve], client_max_size=max_body_bytes)
        app.add_routes(
            [
                web.post("/v1/feedback", self._submit),
                web.post("/v1/feedback:batch", self._submit_batch),
                web.get("/v1/health", self._health),
                web.get("/v1/openapi.json", self._openapi),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=grace_s, logger=log)
        self.address = ""
        self.running = 0
        """Requests that are being served."""

    def _is_ours(self, record: logging.LogRecord) -> bool:
        """Whether aiohttp logs a fault of this server. What was no HTTP it has answered with 400; that is counted and
        not logged, for its text holds what the caller sent."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            self._metrics.http_malformed.inc()
            return False
        return True

    async def start(self, host: str, port: int) -> None:
        """Listens; `address` then says where, for port 0 takes a free one. OSError if the port is taken."""
        log.addFilter(self._is_ours)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, ssl_context=self._tls).start()
        self.address = "{}:{}".format(*self._runner.addresses[0][:2])
        self._is_serving = True

    def drain(self) -> None:
        """Says NOT_SERVING from now on, so that callers go elsewhere; still serves."""
        self._is_serving = False

    async def stop(self) -> None:
        """No new requests; running ones may take `grace_s` to end."""
        self.drain()
        await self._runner.cleanup()
        log.removeFilter(self._is_ours)

    @web.middleware
    async def _serve(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Around every request: an answer of one form and in time, what browsers must be told, and the measure."""
        started, status = time.monotonic(), 500
        try:
            response = await self._answer(request, handler)
            if (origin := request.headers.get("Origin")) and self._may_call(origin):
                response.headers.update({"Access-Control-Allow-Origin": origin} | FOR_PAGES)
            status = response.status
            return response
        finally:
            route = request.match_info.route.resource
            self._metrics.http_duration.labels(route.canonical if route else "other", str(status)).observe(
                time.monotonic() - started
            )

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        limit = asyncio.timeout(self._timeout_s)
        try:
            with self._admitted(request):
                if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
                    return web.Response(status=204, headers=PREFLIGHT)
                async with limit:
                    return await handler(request)
        except AttuneError as error:
            return refusal(error)
        except web.HTTPException as error:
            return refusal_of_http(error)
        except (aiohttp.ClientPayloadError, web.RequestPayloadError, ConnectionResetError) as error:
            return refusal(InvalidInput(f"the body cannot be read: {error}"))
        except TimeoutError:
            if not limit.expired():
                raise
            return refusal(DeadlineExceeded("the time was over before the answer was ready"))

    @contextmanager
    def _admitted(self, request: web.Request) -> Iterator[None]:
        """A place among the running requests, for callers that may come from where they come."""
        origin = request.headers.get("Origin")
        if origin and not self._may_call(origin):
            raise PermissionDenied(f"pages of {origin} may not call: http.origins does not name it")
        if self.running >= self._max_requests:
            raise QueueFull(f"{self.running} requests run already", retry_after_s=RETRY_AFTER_S)
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1

    def _may_call(self, origin: str) -> bool:
        return origin in self._origins or "*" in self._origins

    async def _submit(self, request: web.Request) -> web.Response:
        caller = self._caller(request)
        _, (outcome,) = await self._take([await _json(request)], "event", caller)
        if isinstance(outcome, AttuneError):
            raise without_prefix(outcome, "event.")
        response = feedback_pb2.SubmitFeedbackResponse()
        Answers().receipt(response.receipt, outcome)
        return _json_response(response)

    async def _submit_batch(self, request: web.Request) -> web.Response:
        caller = self._caller(request)
        protos, outcomes = await self._take(_events(await _json(request)), "events[{}]", caller)
        response, answers = feedback_pb2.IngestFeedbackResponse(), Answers()
        for proto, outcome in zip(protos, outcomes, strict=True):
            answers.result(response.results.add(), proto, outcome)
        return _json_response(response)

    def _caller(self, request: web.Request) -> Caller:
        return self._credentials.caller(request.headers.get("Authorization"))

    async def _take(self, values: list[Any], field: str, caller: Caller) -> tuple[list[Event], list[Outcome]]:
        """Events as they could be read, and what became of each."""
        events: list[Event] = []
        refused: dict[int, AttuneError] = {}
        for index, value in enumerate(values):
            event, unreadable = read_event(value, field.format(index))
            caller.complete(event)
            if (error := unreadable or caller.refusal(event, field.format(index))) is not None:
                refused[index] = error
            events.append(event)
        taken = self._intake.begin(events, field, refused)
        await self._intake.wait(taken, self._timeout_s)
        return events, self._intake.finish(taken)

    async def _health(self, request: web.Request) -> web.Response:
        said = "SERVING" if self._is_serving else "NOT_SERVING"
        return web.json_response({"status": said}, status=200 if self._is_serving else 503)

    async def _openapi(self, request: web.Request) -> web.Response:
        return web.Response(body=OPENAPI.read_bytes(), content_type="application/json")


async def _json(request: web.Request) -> Any:
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(reason="send application/json")
    return read_json(await request.read())


def _events(value: Any) -> list[Any]:
    """The events of a batch's body."""
    if not isinstance(value, dict) or value.keys() != {"events"} or not isinstance(value["events"], list):
        raise InvalidInput.field("events", "must be an array, and the only field of the body")
    if not 1 <= len(value["events"]) <= MAX_EVENTS:
        raise InvalidInput.field("events", f"must be 1 to {MAX_EVENTS} events")
    return value["events"]


def _json_response(message: Message) -> web.Response:
    return web.Response(text=to_json(message), content_type="application/json")
