"""The HTTP door over a real socket, called by a real HTTP client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from attune.api.feedback.v1 import feedback_pb2
from attune.client.errors import from_status
from attune.client.tokens import sign_feedback_token
from attune.domain import feedback as domain
from attune.domain.errors import (
    AttuneError,
    EventLogUnavailable,
    FeedbackConflict,
    InvalidInput,
    PermissionDenied,
    QueueFull,
    Unauthenticated,
)
from attune.domain.feedback import Demonstration, FeedbackEvent, Rating
from attune.domain.generations import MAX_NAME_CHARACTERS
from attune.feedback.ingest.acceptor import Acceptor
from attune.feedback.ingest.intake import MAX_EVENTS, Intake
from attune.feedback.ingest.metrics import IngestMetrics
from attune.feedback.ingest.web.credentials import Credentials
from attune.feedback.ingest.web.door import FeedbackDoor
from attune.platform.access.keys import KeyStore, new_key, write_keys
from attune.platform.events.memory import MemoryEventLog
from attune.platform.web.server import HttpMetrics, HttpServer
from attune.platform.web.settings import HttpLimits
from feedback_samples import an_event, an_id, completion
from google.protobuf.json_format import MessageToDict, ParseDict
from google.rpc import status_pb2
from openapi_spec_validator import validate
from prometheus_client import CollectorRegistry
from support.eventually import eventually
from unit.feedback.ingest.gated import GatedProducer, stored

SECRET = "s" * 32
KEY, KEPT = new_key("shop", ["feedback"])
OPEN = Credentials(KeyStore(), {}, max_token_s=3600)


class Caller:
    """Posts JSON to a door, and reads answers."""

    def __init__(self, door: HttpServer, session: aiohttp.ClientSession, registry: CollectorRegistry) -> None:
        self.door, self.session, self.registry = door, session, registry

    async def post(
        self, body: Any, path: str = "/v1/feedback", *, credential: str = "", **headers: str
    ) -> tuple[aiohttp.ClientResponse, Any]:
        if credential:
            headers["Authorization"] = f"Bearer {credential}"
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        async with self.session.post(self.url(path), data=data, headers=headers) as response:
            return response, json.loads(await response.text())

    async def refused(self, body: Any, path: str = "/v1/feedback", **how: str) -> tuple[int, AttuneError]:
        response, answer = await self.post(body, path, **how)
        return response.status, from_status(ParseDict(answer, status_pb2.Status()))

    def url(self, path: str) -> str:
        return f"http://{self.door.address}{path}"


@asynccontextmanager
async def opened(
    gated: GatedProducer, credentials: Credentials = OPEN, queue_events: int = 1000, timeout_s: float = 10.0
) -> AsyncIterator[Caller]:
    registry = CollectorRegistry()
    metrics = IngestMetrics(registry)
    async with Acceptor(gated, queue_events=queue_events) as acceptor:
        routes = FeedbackDoor(Intake(acceptor, metrics), credentials, timeout_s=timeout_s).routes
        door = HttpServer(routes, HttpLimits(timeout_s=timeout_s), HttpMetrics(registry))
        await door.start("127.0.0.1", 0)
        async with aiohttp.ClientSession() as session:
            yield Caller(door, session, registry)
        gated.gate.set()
        await door.stop()


@pytest.fixture
async def caller(gated: GatedProducer) -> AsyncIterator[Caller]:
    """A caller of an open door before a log that stores at once."""
    gated.gate.set()
    async with opened(gated) as caller:
        yield caller


@pytest.fixture
async def guarded(gated: GatedProducer, tmp_path: Path) -> AsyncIterator[Caller]:
    gated.gate.set()
    write_keys(tmp_path / "keys.json", [KEPT])
    closed = Credentials(KeyStore(tmp_path / "keys.json"), {"shop": {"1": SECRET}}, max_token_s=3600)
    async with opened(gated, closed) as caller:
        yield caller


def as_json(event: FeedbackEvent, **without: None) -> dict[str, Any]:
    return {name: value for name, value in MessageToDict(event.to_proto()).items() if name not in without}


async def test_an_event_is_acknowledged_with_a_receipt(caller: Caller, log: MemoryEventLog) -> None:
    response, answer = await caller.post(as_json(an_event()))
    assert response.status == 200
    receipt = ParseDict(answer, feedback_pb2.SubmitFeedbackResponse()).receipt
    assert (receipt.event_id, receipt.repeated_event) == (an_id(1001), False)
    assert stored(log) == [[an_id(1001)]]
    _, again = await caller.post(as_json(an_event()))
    assert again["receipt"]["repeatedEvent"] is True


async def test_what_is_stored_is_what_grpc_would_have_stored(caller: Caller, log: MemoryEventLog) -> None:
    event = an_event(1, Demonstration(completion(1), "schön \N{SNOWMAN}"))
    await caller.post(as_json(event))
    (record,) = log.consumer("attune.feedback").read(0, 0)
    assert event.to_proto().SerializeToString() in record.value


async def test_an_event_that_does_not_hold_is_refused_by_field(caller: Caller) -> None:
    body = as_json(an_event())
    body["rating"]["value"] = 1.5
    status, error = await caller.refused(body)
    assert (status, type(error)) == (400, InvalidInput)
    assert [v.field for v in error.violations] == ["rating.value"]


async def test_another_body_under_an_id_is_a_conflict(caller: Caller) -> None:
    await caller.post(as_json(an_event()))
    status, error = await caller.refused(as_json(an_event(1, Rating(completion(1), 0.0))))
    assert (status, type(error)) == (409, FeedbackConflict)


async def test_a_batch_answers_each_event(caller: Caller, log: MemoryEventLog) -> None:
    events = [as_json(an_event(1)), {}, as_json(an_event(2)), {"rating": 3}, as_json(an_event(1))]
    response, answer = await caller.post({"events": events}, "/v1/feedback:batch")
    results = ParseDict(answer, feedback_pb2.IngestFeedbackResponse()).results
    assert response.status == 200
    assert [result.status.code for result in results] == [0, 3, 0, 3, 0]
    assert [result.receipt.repeated_event for result in results] == [False, False, False, False, True]
    assert "events[1].event_id" in results[1].status.message
    assert "events[3]" in results[3].status.message
    assert stored(log) == [[an_id(1001), an_id(1002)]]


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"events": {}},
        {"events": []},
        {"events": [{}] * (MAX_EVENTS + 1)},
        {"events": [{}], "more": 1},
        b"",
        b"[1",
    ],
    ids=range(8),
)
async def test_a_batch_has_its_form(caller: Caller, body: Any) -> None:
    status, error = await caller.refused(body, "/v1/feedback:batch")
    assert (status, type(error)) == (400, InvalidInput)


async def test_without_a_credential_a_guarded_door_is_closed(guarded: Caller, log: MemoryEventLog) -> None:
    response, _ = await guarded.post(as_json(an_event()))
    assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    status, error = await guarded.refused(as_json(an_event()), credential="wrong" * 10)
    assert (status, type(error)) == (401, Unauthenticated)
    assert stored(log) == []


async def test_a_key_speaks_for_its_app_only(guarded: Caller, log: MemoryEventLog) -> None:
    response, _ = await guarded.post(as_json(an_event()), credential=KEY)
    assert response.status == 200
    status, error = await guarded.refused(as_json(an_event(2, app_id="forum")), credential=KEY)
    assert (status, type(error)) == (403, PermissionDenied)
    assert [v.field for v in error.violations] == ["app_id"]
    assert stored(log) == [[an_id(1001)]]


async def test_a_token_judges_one_generation_and_nothing_else(guarded: Caller, log: MemoryEventLog) -> None:
    token = sign_feedback_token("shop", "1", SECRET, subject_id="ann", generation_id=an_id(1))
    body = as_json(an_event(), appId=None, subjectId=None)
    response, _ = await guarded.post(body, credential=token)
    assert response.status == 200
    events = [
        as_json(an_event(2, Rating(completion(2), 1.0))),
        as_json(an_event(3, Demonstration(completion(1), "mine"))),
        as_json(an_event(4, subject_id="bob")),
        as_json(an_event(5)),
    ]
    _, answer = await guarded.post({"events": events}, "/v1/feedback:batch", credential=token)
    assert [result["status"]["code"] for result in answer["results"]] == [7, 7, 7, 0]
    assert stored(log) == [[an_id(1001)], [an_id(1005)]]
    labels = {"kind": "rating", "outcome": "forbidden"}
    assert guarded.registry.get_sample_value("attune_feedback_events_total", labels) == 2


async def test_a_token_that_has_expired_says_so(guarded: Caller) -> None:
    token = sign_feedback_token("shop", "1", SECRET, subject_id="ann", generation_id=an_id(1), lifetime_s=-60)
    status, error = await guarded.refused(as_json(an_event()), credential=token)
    assert (status, error.reason) == (401, "TOKEN_EXPIRED")


async def test_a_silent_log_is_answered_in_time_with_when_to_come_back(gated: GatedProducer) -> None:
    async with opened(gated, timeout_s=0.2) as caller:
        response, answer = await caller.post(as_json(an_event()))
        error = from_status(ParseDict(answer, status_pb2.Status()))
        assert (response.status, type(error)) == (503, EventLogUnavailable)
        assert response.headers["Retry-After"] == "1"


async def test_what_the_queue_cannot_hold_is_told_to_come_back(gated: GatedProducer) -> None:
    async with opened(gated, queue_events=1) as caller:
        waiting = asyncio.create_task(caller.post(as_json(an_event(1))))
        await eventually(gated.is_writing.is_set)
        status, error = await caller.refused(as_json(an_event(2)))
        assert (status, type(error)) == (429, QueueFull)
        gated.gate.set()
        assert (await waiting)[0].status == 200


async def test_only_json_is_read(caller: Caller) -> None:
    response, _ = await caller.post(as_json(an_event()), Content_Type="text/plain")
    assert response.status == 415


async def test_a_stop_answers_what_runs(log: MemoryEventLog, gated: GatedProducer) -> None:
    async with opened(gated) as caller:
        running = asyncio.create_task(caller.post(as_json(an_event())))
        await eventually(gated.is_writing.is_set)
        stopping = asyncio.create_task(caller.door.stop())
        gated.gate.set()
        response, _ = await running
        assert response.status == 200
        await stopping
    assert stored(log) == [[an_id(1001)]]


async def test_the_openapi_document_is_served_and_holds(caller: Caller) -> None:
    async with caller.session.get(caller.url("/v1/openapi.json")) as response:
        document = await response.json()
    validate(document)
    schemas = document["components"]["schemas"]
    for message in (
        feedback_pb2.SubmitFeedbackResponse,
        feedback_pb2.IngestFeedbackRequest,
        feedback_pb2.FeedbackResult,
        feedback_pb2.FeedbackReceipt,
        *(type(part) for part in parts()),
    ):
        described = schemas[message.DESCRIPTOR.name]["properties"]
        assert described.keys() == {field.json_name for field in message.DESCRIPTOR.fields}
        assert all(field["description"] for field in described.values())
    assert {f"/v1/{path}" for path in ("feedback", "feedback:batch", "health")} == document["paths"].keys()


def parts() -> list[Any]:
    event = an_event().to_proto()
    return [event, event.rating, event.comparison, event.ranking, event.ranking.tiers.add(), event.demonstration]


def test_the_limits_of_the_openapi_document_are_those_of_the_code() -> None:
    text = resources.files("attune.feedback.ingest.web").joinpath("openapi.json").read_text()
    schemas = json.loads(text)["components"]["schemas"]
    event = schemas["FeedbackEvent"]["properties"]
    assert {event[name]["maxLength"] for name in ("appId", "subjectId", "source")} == {MAX_NAME_CHARACTERS}
    assert schemas["Demonstration"]["properties"]["text"]["maxLength"] == domain.MAX_DEMONSTRATION_CHARACTERS
    assert schemas["Ranking"]["properties"]["tiers"]["maxItems"] == domain.MAX_RANKED
    assert schemas["IngestFeedbackRequest"]["properties"]["events"]["maxItems"] == MAX_EVENTS
