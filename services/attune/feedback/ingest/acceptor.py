"""Accepts feedback events: remembers recent ids, writes in groups, and confirms only what the event log has for good.

Events of concurrent calls wait in one queue, bounded in events and bytes. One task takes all of it, has a thread append
it as few records in one commit, and only then 1. remembers the ids, 2. confirms the events. While a commit runs the
next group gathers, so the cost of a durable write is shared by as many events as arrive during one. `pace` tells how
far apart commits begin at least: an event that comes alone is written at once, and under load a commit is worth its
price. All but the append happens on the event loop, so there is nothing to lock.

A repeat of a remembered or waiting event shares the first one's fate and is not written again; the same id with
another body is a FeedbackConflict, decided once the first is stored. If the write fails, nothing of the group is
confirmed or remembered, and every caller may send again. Memory of ids is bounded: the join is exact, this is not.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from attune.domain.errors import AttuneError, EventLogUnavailable, FeedbackConflict, QueueFull
from attune.feedback.ingest.reading import ReceivedEvent, RefusedEvent
from attune.feedback.ingest.records import UNTRACED, records
from attune.platform import tracing
from attune.platform.events.log import Producer

RETRY_AFTER_S = 1.0
MIB = 1024 * 1024

logger = logging.getLogger(__name__)


class Receipt(NamedTuple):
    """An event that the log has for good; `accept_time` in seconds since the Unix epoch."""

    event_id: str
    accept_time: float
    repeated_event: bool


Outcome = Receipt | AttuneError


Stored = tuple[bytes, float]
"""What is remembered of an event: the hash of its body, and when it was accepted."""


class Submission:
    """The events of one message in the acceptor's hands; their outcomes come in the order of the events.

    `traceparent` is that of the message's span; empty when it is not traced.
    """

    def __init__(self, events: int, traceparent: str = "") -> None:
        self.traceparent = traceparent
        self._outcomes: list[Outcome | None] = [None] * events
        self._open = events
        self._settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def is_settled(self) -> bool:
        return not self._open

    @property
    def outcomes(self) -> list[Outcome]:
        """What became of each event, once settled."""
        assert self.is_settled
        return self._outcomes  # type: ignore[return-value]  # none of it is None

    async def wait(self, timeout_s: float) -> None:
        """Returns when all are settled. An event that the log does not answer for within `timeout_s` becomes
        EventLogUnavailable; it may still be stored, and sending it again counts once.

        Whoever stops waiting takes nothing back: an event in the queue is written.
        """
        if self._open:
            timer = self._settled.get_loop().call_later(timeout_s, self._expire)
            try:
                await self._settled
            finally:
                timer.cancel()

    def settle(self, index: int, outcome: Outcome) -> None:
        """Decides one event; the first decision stands."""
        if self._outcomes[index] is not None:
            return
        self._outcomes[index] = outcome
        self._open -= 1
        if not self._open and not self._settled.done():
            self._settled.set_result(None)

    def _expire(self) -> None:
        late = EventLogUnavailable("the event log has not answered in time", retry_after_s=RETRY_AFTER_S)
        for index in range(len(self._outcomes)):
            self.settle(index, late)


class Waiting(NamedTuple):
    """An event in the queue, and where its outcome goes."""

    event: ReceivedEvent
    submission: Submission
    position: int


class Acceptor:
    """See the module. Start it as an async context manager; leaving drains the queue and ends the writer."""

    def __init__(
        self,
        producer: Producer,
        *,
        queue_events: int = 10_000,
        queue_bytes: int = 64 * MIB,
        remembered_events: int = 100_000,
        pace: Callable[[], float] = lambda: 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._producer, self._clock = producer, clock
        self._queue_events, self._queue_bytes = queue_events, queue_bytes
        self._remembered_events, self._pace = remembered_events, pace
        self._recent: OrderedDict[bytes, Stored] = OrderedDict()
        self._waiting: set[bytes] = set()
        self._repeats: dict[bytes, list[Waiting]] = {}
        self._held_events = self._held_bytes = 0
        self._queue: list[Waiting] = []
        self._writing: list[Waiting] = []
        self._next_commit = 0.0
        self._has_work = asyncio.Event()
        self._closing = asyncio.Event()

    async def __aenter__(self) -> Acceptor:
        self._thread = ThreadPoolExecutor(1, "feedback-writer")
        self._writer = asyncio.create_task(self._write_groups(), name="feedback writer")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        self._has_work.set()
        await asyncio.wait([self._writer])
        self._thread.shutdown()

    async def failure(self) -> None:
        """Waits for the end of the writer, and raises what ended it before its time."""
        await asyncio.shield(self._writer)

    def submit(self, events: Sequence[ReceivedEvent | RefusedEvent]) -> Submission:
        """Queues events; one that is refused already stays so. Each of the others becomes a receipt, or
        FeedbackConflict, QueueFull or EventLogUnavailable."""
        submission = Submission(len(events), tracing.traceparent())
        for position, event in enumerate(events):
            outcome = self._admit(event, submission, position) if isinstance(event, ReceivedEvent) else event.error
            if outcome is not None:
                submission.settle(position, outcome)
        if self._queue:
            self._has_work.set()
        return submission

    def _admit(self, event: ReceivedEvent, submission: Submission, position: int) -> Outcome | None:
        """What is known of the event at once; None once it waits."""
        if (stored := self._recent.get(event.key)) is not None:
            self._recent.move_to_end(event.key)
            return _repeated(event, stored)
        if (refusal := self._refusal(event)) is not None:
            return refusal
        waiting = Waiting(event, submission, position)
        if event.key in self._waiting:
            self._repeats.setdefault(event.key, []).append(waiting)
        else:
            self._waiting.add(event.key)
            self._queue.append(waiting)
        self._held_events += 1
        self._held_bytes += len(event.wire)
        return None

    def _refusal(self, event: ReceivedEvent) -> AttuneError | None:
        if self._closing.is_set() or self._writer.done():
            return going_down()
        if self._held_events >= self._queue_events or self._held_bytes + len(event.wire) > self._queue_bytes:
            return QueueFull(f"{self._held_events} events wait already", retry_after_s=RETRY_AFTER_S)
        return None

    async def _write_groups(self) -> None:
        try:
            while await self._next_group():
                await self._write(self._writing)
        finally:
            self._settle([*self._writing, *self._queue], lambda _: going_down())

    async def _next_group(self) -> bool:
        """Takes everything in the queue; waits for the first event, and is False when the acceptor closes."""
        while not self._queue and not self._closing.is_set():
            self._has_work.clear()
            await self._has_work.wait()
        await self._until(self._next_commit)
        self._next_commit = time.monotonic() + self._pace()
        self._writing, self._queue = self._queue, []
        return bool(self._writing)

    async def _until(self, due_s: float) -> None:
        """Waits for a time of the monotonic clock, or for the end."""
        early_s = due_s - time.monotonic()
        if early_s > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(early_s):
                    await self._closing.wait()

    async def _write(self, group: list[Waiting]) -> None:
        accept_time = self._clock()
        traceparents = (waiting.submission.traceparent for waiting in group) if tracing.is_on() else UNTRACED
        values = list(records((waiting.event.wire for waiting in group), accept_time, traceparents))
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._producer.append, values)
        except EventLogUnavailable as error:
            logger.warning("%d events were refused: %s", len(group), error.message)
            refusal = EventLogUnavailable("the event log cannot store now", retry_after_s=RETRY_AFTER_S)
            self._settle(group, lambda _: refusal)
        else:
            self._confirm(group, accept_time)

    def _confirm(self, group: list[Waiting], accept_time: float) -> None:
        for event, _, _ in group:
            self._recent[event.key] = event.body_hash, accept_time
        self._settle(group, lambda event: Receipt(event.event_id, accept_time, False))
        while len(self._recent) > self._remembered_events:
            self._recent.popitem(last=False)

    def _settle(self, group: list[Waiting], outcome_of: Callable[[ReceivedEvent], Outcome]) -> None:
        """Ends the waiting of a group and of those who sent the same ids while it was there."""
        for waiting in group:
            self._release(waiting, outcome_of(waiting.event))
        keys = [waiting.event.key for waiting in group]
        self._waiting.difference_update(keys)
        for key in keys if self._repeats else ():
            for repeat in self._repeats.pop(key, ()):
                stored = self._recent.get(key)
                self._release(repeat, _repeated(repeat.event, stored) if stored else outcome_of(repeat.event))
        self._writing = []

    def _release(self, waiting: Waiting, outcome: Outcome) -> None:
        event, submission, position = waiting
        self._held_events -= 1
        self._held_bytes -= len(event.wire)
        submission.settle(position, outcome)


def going_down() -> EventLogUnavailable:
    """What a caller is told when the process ends: nothing of it was stored, send it to the next one."""
    return EventLogUnavailable("ingest is going down", retry_after_s=RETRY_AFTER_S)


def _repeated(event: ReceivedEvent, stored: Stored) -> Outcome:
    body_hash, accept_time = stored
    if event.body_hash == body_hash:
        return Receipt(event.event_id, accept_time, repeated_event=True)
    return FeedbackConflict("the event id was used before with another body", metadata={"event_id": event.event_id})
