"""One StreamFeedback call: reads ahead of the log within a window of events and bytes, and answers in order.

Beyond the window the stream is not read, which slows its sender. Answers that are ready together go out together, to
senders of `events`; a sender of single `event`s gets a response for each, as the contract says. Bytes that are no
message end the stream, once what came before them is answered.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

from attune.api.feedback.v1 import feedback_pb2
from attune.domain.errors import InvalidInput
from attune.feedback.ingest.acceptor import MIB, going_down
from attune.feedback.ingest.answers import Answers
from attune.feedback.ingest.caller import ANYBODYS, Caller
from attune.feedback.ingest.intake import MAX_EVENTS, Intake, Taken
from attune.feedback.ingest.reading import parse
from attune.platform.deadline import remaining_s

WINDOW_EVENTS = 1000
WINDOW_BYTES = 4 * MIB


class Pending(NamedTuple):
    """A message that is not answered yet: its events, whether it is answered in `results`, and its bytes."""

    taken: Taken
    has_several: bool
    size: int


class FeedbackStream:
    """See the module. Used inside its call."""

    def __init__(self, intake: Intake, requests: AsyncIterator[bytes], caller: Caller = ANYBODYS) -> None:
        self._intake, self._requests, self._caller = intake, requests, caller
        self._pending: deque[Pending] = deque()
        self._ahead_events = self._ahead_bytes = 0
        self._arrived, self._answered = asyncio.Event(), asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._is_draining = False

    async def responses(self) -> AsyncIterator[bytes]:
        """Serialised StreamFeedbackResponses; then raises what ended the stream, if it did not end well."""
        if self._is_draining:
            raise going_down()
        reader = self._reader = asyncio.create_task(self._read())
        reader.add_done_callback(lambda _: self._arrived.set())
        try:
            while await self._has_pending(reader):
                yield (await self._answer()).SerializeToString()
            if self._is_draining:
                raise going_down()
            reader.result()
        finally:
            reader.cancel()

    def drain(self) -> None:
        """Reads no more; what was read is still answered, and then the stream ends as UNAVAILABLE."""
        self._is_draining = True
        if self._reader is not None:
            self._reader.cancel()

    async def _read(self) -> None:
        async for raw in self._requests:
            self._take(parse(feedback_pb2.StreamFeedbackRequest, raw), len(raw))
            while self._ahead_events >= WINDOW_EVENTS or self._ahead_bytes >= WINDOW_BYTES:
                self._answered.clear()
                await self._answered.wait()

    def _take(self, request: feedback_pb2.StreamFeedbackRequest, size: int) -> None:
        has_several = bool(request.events)
        if has_several and request.HasField("event"):
            raise InvalidInput.field("events", "must be empty where event is set")
        if len(request.events) > MAX_EVENTS:
            raise InvalidInput.field("events", f"must be at most {MAX_EVENTS} events")
        events, field = (request.events, "events[{}]") if has_several else ([request.event], "event")
        taken = self._intake.begin(events, field, self._caller.restrict(events, field))
        self._pending.append(Pending(taken, has_several, size))
        self._ahead_events += len(taken.protos)
        self._ahead_bytes += size
        self._arrived.set()

    async def _has_pending(self, reader: asyncio.Task[None]) -> bool:
        """Waits for something to answer; False at the end of the stream."""
        while not self._pending and not reader.done():
            self._arrived.clear()
            await self._arrived.wait()
        return bool(self._pending)

    async def _answer(self) -> feedback_pb2.StreamFeedbackResponse:
        """The answer to the oldest message, and to those behind it that are decided and can share its response."""
        first = self._pending.popleft()
        await self._intake.wait(first.taken, remaining_s(math.inf))
        together = [first, *self._ready(MAX_EVENTS - len(first.taken.protos))] if first.has_several else [first]
        response, answers = feedback_pb2.StreamFeedbackResponse(), Answers()
        events = [event for message in together for event in message.taken.protos]
        outcomes = self._intake.finish(*(message.taken for message in together))
        for event, outcome in zip(events, outcomes, strict=True):
            answers.result(response.results.add() if first.has_several else response.result, event, outcome)
        self._ahead_events -= len(events)
        self._ahead_bytes -= sum(message.size for message in together)
        self._answered.set()
        return response

    def _ready(self, room: int) -> Iterator[Pending]:
        """Takes the oldest messages as long as they are decided, answered in `results`, and of no more events than
        there is room for."""
        while self._pending:
            oldest = self._pending[0]
            count = len(oldest.taken.protos)
            if not oldest.has_several or not oldest.taken.submission.is_settled or count > room:
                return
            room -= count
            yield self._pending.popleft()
