"""The ways in: three calls over gRPC, two over HTTP, and the topic itself. Each sends events and tells what came back.

A door has a name, the most events that it sends at once, and `send`, whose answers stand in the order of the events.
What the network or a dying process does to a call means AGAIN; what the server says on purpose is taken at its word.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, ClassVar, Protocol

import aiohttp
from attune.api.events.v1 import events_pb2
from attune.client import AsyncClient, FeedbackEvent, Receipt
from attune.domain.errors import AttuneError, EventLogUnavailable
from attune.domain.feedback import AcceptedFeedback
from attune.platform.events.log import Producer
from chaos.ledger import Answer, Outcome
from google.protobuf.json_format import MessageToDict

TIMEOUT_S = 12.0
TRICKLE, TRICKLE_PAUSE_S = 25, 0.05
TAKEN, AGAIN, CONFLICT = Answer(Outcome.TAKEN), Answer(Outcome.AGAIN), Answer(Outcome.CONFLICT)
PASSING = {"UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
BY_HTTP_STATUS = {200: TAKEN, 409: CONFLICT, 429: AGAIN, 503: AGAIN, 504: AGAIN}
BY_CODE = {0: TAKEN, 4: AGAIN, 6: CONFLICT, 8: AGAIN, 14: AGAIN}


class Door(Protocol):
    """See the module."""

    name: ClassVar[str]
    at_most: ClassVar[int]

    async def send(self, events: Sequence[FeedbackEvent]) -> list[Answer]:
        """Sends all of them once."""


def of_error(error: AttuneError) -> Answer:
    """What an error of the client says. One of the transport names its gRPC status: no server spoke."""
    if error.status in PASSING or "grpc_status" in error.metadata:
        return AGAIN
    return CONFLICT if error.reason == "FEEDBACK_CONFLICT" else Answer(Outcome.WRONG, f"{error.reason}: {error}")


def of_result(result: Receipt | AttuneError) -> Answer:
    return of_error(result) if isinstance(result, AttuneError) else TAKEN


class Submit:
    """SubmitFeedback, one event a call."""

    name, at_most = "SubmitFeedback", 1

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def send(self, events: Sequence[FeedbackEvent]) -> list[Answer]:
        (event,) = events
        try:
            return [of_result(await self._client.submit(event, timeout_s=TIMEOUT_S))]
        except AttuneError as error:
            return [of_error(error)]


class Ingest:
    """IngestFeedback, many events a call."""

    name, at_most = "IngestFeedback", 200

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def send(self, events: Sequence[FeedbackEvent]) -> list[Answer]:
        try:
            return [of_result(result) for result in await self._client.ingest(events, timeout_s=TIMEOUT_S)]
        except AttuneError as error:
            return [of_error(error)] * len(events)


class Stream:
    """StreamFeedback, a stream at a time, in which events come one after the other as from a live source."""

    name, at_most = "StreamFeedback", 500

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def send(self, events: Sequence[FeedbackEvent]) -> list[Answer]:
        answers: list[Answer] = []
        try:
            async with aclosing(self._client.stream_feedback(_trickle(events), timeout_s=TIMEOUT_S)) as results:
                async for result in results:
                    answers.append(of_result(result))
        except AttuneError as error:
            answers += [of_error(error)] * (len(events) - len(answers))
        return answers


async def _trickle(events: Sequence[FeedbackEvent]) -> AsyncIterator[FeedbackEvent]:
    for number, event in enumerate(events, start=1):
        yield event
        if number % TRICKLE == 0:
            await asyncio.sleep(TRICKLE_PAUSE_S)


class Http:
    """POST /v1/feedback."""

    name, at_most = "POST /v1/feedback", 1

    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        self._session, self._url = session, f"http://{address}/v1/feedback"

    async def send(self, events: Sequence[FeedbackEvent]) -> list[Answer]:
        (event,) = events
        status, body = await _post(self._session, self._url, MessageToDict(event.to_proto()))
        return [of_answer(status, body)]


class HttpBatch:
    """POST /v1/feedback:batch."""

    name, at_most = "POST /v1/feedback:batch", 100

    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        self._session, self._url = session, f"http://{address}/v1/feedback:batch"

    async def send(self, events: Sequence[FeedbackEvent]) -> list[Answer]:
        protos = [MessageToDict(event.to_proto()) for event in events]
        status, body = await _post(self._session, self._url, {"events": protos})
        if status != 200:
            return [of_answer(status, body)] * len(events)
        return [of_code(result.get("status", {})) for result in body["results"]]


async def _post(session: aiohttp.ClientSession, url: str, value: Any) -> tuple[int, Any]:
    """Status and body; 0 where none came."""
    try:
        async with session.post(url, json=value, timeout=aiohttp.ClientTimeout(TIMEOUT_S)) as response:
            return response.status, await response.json()
    except (aiohttp.ClientError, TimeoutError):
        return 0, None


def of_answer(status: int, body: Any) -> Answer:
    return BY_HTTP_STATUS.get(status, Answer(Outcome.WRONG, f"{status}: {body}")) if status else AGAIN


def of_code(status: Any) -> Answer:
    return BY_CODE.get(status.get("code", 0), Answer(Outcome.WRONG, str(status)))


class Direct:
    """An app that writes records of several events to the topic itself."""

    name, at_most = "the topic itself", 50

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    async def send(self, events: Sequence[FeedbackEvent]) -> list[Answer]:
        now_s = time.time()
        batch = events_pb2.FeedbackBatch(events=[AcceptedFeedback(event, now_s).to_proto() for event in events])
        try:
            await asyncio.to_thread(self._producer.append, [batch.SerializeToString()])
        except EventLogUnavailable:
            return [AGAIN] * len(events)
        return [TAKEN] * len(events)
