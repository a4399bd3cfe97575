"""The HTTP server over a real socket, with a door of two routes: one answers what it read, one streams until told."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from attune.client.errors import from_status
from attune.domain.errors import DeadlineExceeded, InvalidInput, QueueFull
from attune.platform.access.tls import CertificateFiles, ServerCertificates
from attune.platform.deadline import remaining_s
from attune.platform.web.bodies import json_of
from attune.platform.web.server import CALLER_GONE, HttpMetrics, HttpServer
from attune.platform.web.settings import HttpLimits
from google.protobuf.json_format import Parse
from google.rpc import status_pb2
from prometheus_client import CollectorRegistry
from support.certificates import Authority
from support.eventually import eventually
from support.tracing import recorded, trace_of

PAGE = "https://shop.example"


@dataclass
class Door:
    """Answers once `gate` is open."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    reached: int = 0
    ended: int = 0
    left_s: float = 0.0

    async def echo(self, request: web.Request) -> web.Response:
        body = await json_of(request)
        self.reached += 1
        self.left_s = remaining_s(1e9)
        try:
            await self.gate.wait()
            return web.json_response(body)
        finally:
            self.ended += 1

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first ")
        await self.gate.wait()
        await response.write(b"last")
        return response


@dataclass
class Caller:
    server: HttpServer
    session: aiohttp.ClientSession
    registry: CollectorRegistry
    door: Door

    def url(self, path: str) -> str:
        return f"http://{self.server.address}{path}"

    async def post(self, body: Any = b"{}", **headers: str) -> tuple[aiohttp.ClientResponse, str]:
        headers = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        async with self.session.post(self.url("/v1/echo"), data=body, headers=headers) as response:
            return response, await response.text()

    def measured(self, route: str, status: int) -> float | None:
        labels = {"route": route, "status": str(status)}
        return self.registry.get_sample_value("attune_http_duration_seconds_count", labels)


@asynccontextmanager
async def opened(
    *, is_gated: bool = False, cancels: bool = False, tls: ssl.SSLContext | None = None, **limits: Any
) -> AsyncIterator[Caller]:
    registry, door = CollectorRegistry(), Door()
    if not is_gated:
        door.gate.set()
    server = HttpServer(
        [web.post("/v1/echo", door.echo), web.get("/v1/stream", door.stream)],
        HttpLimits(origins=frozenset([PAGE]), **limits),
        HttpMetrics(registry),
        tls=tls,
        shown_headers=["Attune-Thing"],
        cancels=cancels,
    )
    await server.start("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession() as session:
            yield Caller(server, session, registry, door)
    finally:
        door.gate.set()
        await server.stop()


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    async with opened() as caller:
        yield caller


async def test_a_request_is_answered_and_measured(caller: Caller) -> None:
    response, text = await caller.post(b'{"a": 1}')
    assert (response.status, text) == (200, '{"a": 1}')
    assert caller.measured("/v1/echo", 200) == 1


async def test_a_page_that_is_named_may_call(caller: Caller) -> None:
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    async with caller.session.options(caller.url("/v1/echo"), headers=asked) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == PAGE
        assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
    for body, status in ((b"{}", 200), (b"{", 400)):
        answered, _ = await caller.post(body, Origin=PAGE)
        assert answered.status == status
        assert answered.headers["Access-Control-Allow-Origin"] == PAGE
        assert answered.headers["Vary"] == "Origin"
        assert answered.headers["Access-Control-Expose-Headers"] == "Retry-After, Attune-Thing"


async def test_a_page_that_is_not_named_may_not(caller: Caller) -> None:
    answered, _ = await caller.post(Origin="https://other.example")
    assert answered.status == 403
    assert "Access-Control-Allow-Origin" not in answered.headers
    assert caller.door.reached == 0


async def test_too_many_requests_at_once_are_told_to_come_back() -> None:
    async with opened(is_gated=True, max_requests=2) as caller:
        waiting = [asyncio.create_task(caller.post()) for _ in range(2)]
        await eventually(lambda: caller.server.running == 2)
        response, text = await caller.post()
        assert (response.status, response.headers["Retry-After"]) == (429, "1")
        assert type(from_status(Parse(text, status_pb2.Status()))) is QueueFull
        caller.door.gate.set()
        assert [(await task)[0].status for task in waiting] == [200, 200]


async def test_a_body_has_its_limit() -> None:
    async with opened(max_body_bytes=1000) as caller:
        response, _ = await caller.post(b" " * 1001)
        assert response.status == 413
        assert caller.measured("/v1/echo", 413) == 1


async def test_only_json_is_read(caller: Caller) -> None:
    response, _ = await caller.post(Content_Type="text/plain")
    assert response.status == 415


async def test_other_paths_and_methods_are_refused_in_the_same_form(caller: Caller) -> None:
    async with caller.session.post(caller.url("/v1/other"), json={}) as answered:
        assert (answered.status, Parse(await answered.text(), status_pb2.Status()).code) == (404, 5)
    assert caller.measured("other", 404) == 1
    async with caller.session.get(caller.url("/v1/echo")) as answered:
        assert (answered.status, answered.headers["Allow"]) == (405, "POST")
        assert Parse(await answered.text(), status_pb2.Status()).code == 12


async def test_a_body_that_never_ends_is_not_waited_for() -> None:
    async with opened(timeout_s=0.1) as caller:

        async def slow() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.Event().wait()

        response, text = await caller.post(slow())
        error = from_status(Parse(text, status_pb2.Status()))
        assert (response.status, type(error)) == (504, DeadlineExceeded)


async def test_the_time_left_is_known_to_the_route() -> None:
    async with opened(timeout_s=20.0) as caller:
        await caller.post()
        assert 0.0 < caller.door.left_s <= 20.0


async def test_an_answer_that_has_begun_may_take_longer() -> None:
    async with opened(is_gated=True, timeout_s=0.1) as caller, caller.session.get(caller.url("/v1/stream")) as response:
        assert await response.content.read(6) == b"first "
        late = asyncio.create_task(caller.post())
        assert (await late)[0].status == 504  # as long as the limit of the stream would have been
        caller.door.gate.set()
        assert await response.content.read() == b"last"


async def test_a_body_packed_wrong_is_the_callers_fault(caller: Caller) -> None:
    response, text = await caller.post(b"no gzip", Content_Encoding="gzip")
    error = from_status(Parse(text, status_pb2.Status()))
    assert (response.status, type(error)) == (400, InvalidInput)


async def test_what_is_no_http_is_refused_counted_and_not_logged(
    caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    host, _, port = caller.server.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/echo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secr\x00et\r\n\r\n")
    assert b" 400 " in await reader.readline()
    writer.close()
    assert caller.registry.get_sample_value("attune_http_malformed_total") == 1
    assert "secr" not in caplog.text


async def test_a_caller_who_goes_before_the_body_ends_is_no_fault_of_the_server(
    caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    host, _, port = caller.server.address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
    await eventually(lambda: caller.server.running == 1)
    writer.close()
    await eventually(lambda: caller.measured("/v1/echo", 400))
    assert "Error" not in caplog.text


async def test_a_request_whose_caller_goes_is_ended_where_that_is_asked_for() -> None:
    async with opened(is_gated=True, cancels=True) as caller:
        asked = asyncio.create_task(caller.post())
        await eventually(lambda: caller.door.reached)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await eventually(lambda: caller.door.ended)
        await eventually(lambda: caller.measured("/v1/echo", CALLER_GONE) == 1)
        assert caller.server.running == 0


async def test_health_is_what_it_was_told(caller: Caller) -> None:
    for is_serving, said in ((True, (200, {"status": "SERVING"})), (False, (503, {"status": "NOT_SERVING"}))):
        caller.server.set_serving(is_serving)
        async with caller.session.get(caller.url("/v1/health")) as response:
            assert (response.status, await response.json()) == said


async def test_a_stop_answers_what_runs() -> None:
    async with opened(is_gated=True) as caller:
        running = asyncio.create_task(caller.post())
        await eventually(lambda: caller.door.reached)
        stopping = asyncio.create_task(caller.server.stop())
        caller.door.gate.set()
        assert (await running)[0].status == 200
        await stopping


async def test_requests_are_still_taken_after_notice_was_given(caller: Caller) -> None:
    caller.server.set_serving(True)
    stopping = asyncio.create_task(caller.server.stop(notice_s=60.0))
    await asyncio.sleep(0)
    async with caller.session.get(caller.url("/v1/health")) as response:
        assert response.status == 503
    assert (await caller.post())[0].status == 200
    assert not stopping.done()
    stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)


async def test_it_speaks_tls_where_it_has_a_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.server()
    certificates = ServerCertificates(CertificateFiles(pair.certificate, pair.key, authority.file))
    trusting = ssl.create_default_context(cafile=str(authority.file))
    async with opened(tls=certificates.ssl_context()) as caller:
        url = f"https://{caller.server.address}/v1/echo"
        async with caller.session.post(url, json={}, ssl=trusting) as response:
            assert response.status == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await caller.session.post(url, json={})
        with pytest.raises(aiohttp.ClientError):
            await caller.post()
        assert caller.door.reached == 1


async def test_a_request_has_a_span_in_the_trace_its_headers_name_and_health_has_none(caller: Caller) -> None:
    with recorded() as spans:
        await caller.post(traceparent=f"00-{0xA:032x}-{0xB:016x}-01")
        await caller.post(b"{")
        async with caller.session.get(caller.url("/v1/health")):
            pass
        async with caller.session.get(caller.url("/nowhere")):
            pass
    answered, refused = spans.all()
    assert {span.name for span in spans.all()} == {"POST /v1/echo"}
    assert trace_of(answered) == 0xA != trace_of(refused)
    assert [dict(s.attributes or {})["http.response.status_code"] for s in (answered, refused)] == [200, 400]
    assert refused.status.is_unset
