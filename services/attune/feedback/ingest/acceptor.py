"""Accepts feedback events: remembers recent ids, writes in groups, and confirms only what the event log has for good.

Events of concurrent calls wait in one bounded queue. A writer thread takes all of it, writes it as few records in one
commit, and only then 1. remembers the ids, 2. confirms the events. While a commit runs the next group gathers, so the
cost of a durable write is shared by as many events as arrive during one.

A repeat of a remembered or waiting event shares the first one's fate and is not written again; the same id with
another body is a FeedbackConflict, decided once the first is stored. If the write fails, nothing of the group is
confirmed or remembered, and every caller may send again. Memory of ids is bounded: the join is exact, this is not.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

from attune.api.events.v1 import events_pb2
from attune.domain.errors import EventLogUnavailable, FeedbackConflict, QueueFull
from attune.domain.feedback import AcceptedFeedback, FeedbackEvent
from attune.domain.ids import uuid_bytes
from attune.platform.events.log import Producer

RETRY_AFTER_S = 1.0
MAX_RECORD_EVENTS = 1000
MAX_RECORD_BYTES = 512 * 1024

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Receipt:
    """An event that the log has for good; `accept_time` in seconds since the Unix epoch."""

    event_id: str
    accept_time: float
    repeated_event: bool


class Key(NamedTuple):
    """An event in its app."""

    app_id: str
    id: bytes


class Accepted(NamedTuple):
    """What is remembered of an event."""

    body_hash: bytes
    accept_time: float


@dataclass
class Waiting:
    """An event in the queue, and those who sent the same id while it was there."""

    key: Key
    event: FeedbackEvent
    body_hash: bytes
    outcome: Future[Receipt] = field(default_factory=Future)
    repeats: list[tuple[bytes, Future[Receipt]]] = field(default_factory=list)


class Acceptor:
    """See the module. Start it as a context manager; leaving drains the queue and ends the writer thread.

    `failure` resolves with the error that ended the writer thread before its time.
    """

    def __init__(
        self,
        producer: Producer,
        *,
        queue_events: int = 10_000,
        remembered_events: int = 100_000,
        trim_interval_s: float = 600.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._producer, self._clock = producer, clock
        self._queue_events, self._remembered_events = queue_events, remembered_events
        self._trim_interval_s, self._next_trim = trim_interval_s, time.monotonic() + trim_interval_s
        self._changed = threading.Condition()
        self._queue: deque[Waiting] = deque()
        self._waiting: dict[Key, Waiting] = {}
        self._recent: OrderedDict[Key, Accepted] = OrderedDict()
        self._is_closing = False
        self.failure: Future[None] = Future()
        self.failure.set_running_or_notify_cancel()
        self._thread = threading.Thread(target=self._run, name="feedback-writer", daemon=True)

    def __enter__(self) -> Acceptor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join()

    def submit(self, event: FeedbackEvent) -> Future[Receipt]:
        """Queues an event. The future gives its receipt, or FeedbackConflict or EventLogUnavailable.

        QueueFull rises at once. The future cannot be cancelled: an event in the queue is written whoever still waits.
        """
        key, body_hash = Key(event.app_id, uuid_bytes(event.event_id)), event.body_hash
        with self._changed:
            if (known := self._recent.get(key)) is not None:
                self._recent.move_to_end(key)
                return _settled(event, body_hash, known)
            if (first := self._waiting.get(key)) is not None:
                repeat = _running()
                first.repeats.append((body_hash, repeat))
                return repeat
            self._check_room()
            waiting = Waiting(key, event, body_hash, _running())
            self._waiting[key] = waiting
            self._queue.append(waiting)
            self._changed.notify()
        return waiting.outcome

    def _check_room(self) -> None:
        if self.failure.done() or self._is_closing:
            raise EventLogUnavailable("ingest is going down", retry_after_s=RETRY_AFTER_S)
        if len(self._waiting) >= self._queue_events:
            raise QueueFull(f"{self._queue_events} events wait already", retry_after_s=RETRY_AFTER_S)

    def _run(self) -> None:
        try:
            while group := self._next_group():
                self._write(group)
        except Exception as error:  # The main of this thread: whoever waits must hear, and the process must stop.
            logger.exception("the feedback writer failed")
            self.failure.set_exception(error)
            self._give_up(error)

    def _next_group(self) -> list[Waiting]:
        """Everything in the queue; blocks for the first event, and is empty when the acceptor closes."""
        with self._changed:
            while not self._queue and not self._is_closing:
                self._changed.wait(max(0.0, self._next_trim - time.monotonic()))
                if time.monotonic() >= self._next_trim:
                    self._trim()
            group = list(self._queue)
            self._queue.clear()
        return group

    def _trim(self) -> None:
        """Ingest is the writer of the topic, so its retention is kept here."""
        self._next_trim = time.monotonic() + self._trim_interval_s
        try:
            self._producer.trim(self._clock())
        except EventLogUnavailable as error:
            logger.warning("the event log cannot be trimmed now: %s", error.message)

    def _write(self, group: list[Waiting]) -> None:
        accept_time = self._clock()
        try:
            self._producer.append(list(_records(group, accept_time)))
        except EventLogUnavailable as error:
            logger.warning("%d events were refused: %s", len(group), error.message)
            refusal = EventLogUnavailable("the event log cannot store now", retry_after_s=RETRY_AFTER_S)
            self._refuse(group, refusal)
            return
        self._confirm(group, accept_time)

    def _confirm(self, group: list[Waiting], accept_time: float) -> None:
        with self._changed:
            for waiting in group:
                self._recent[waiting.key] = Accepted(waiting.body_hash, accept_time)
                del self._waiting[waiting.key]
            while len(self._recent) > self._remembered_events:
                self._recent.popitem(last=False)
        for waiting in group:
            waiting.outcome.set_result(Receipt(waiting.event.event_id, accept_time, repeated_event=False))
            accepted = Accepted(waiting.body_hash, accept_time)
            for body_hash, repeat in waiting.repeats:
                _settle(repeat, waiting.event, body_hash, accepted)

    def _refuse(self, group: Iterable[Waiting], error: BaseException) -> None:
        with self._changed:
            for waiting in group:
                del self._waiting[waiting.key]
        for waiting in group:
            for outcome in (waiting.outcome, *(repeat for _, repeat in waiting.repeats)):
                outcome.set_exception(error)

    def _give_up(self, error: BaseException) -> None:
        with self._changed:
            left = list(self._waiting.values())
            self._queue.clear()
        self._refuse(left, error)


def _records(group: Iterable[Waiting], accept_time: float) -> Iterator[bytes]:
    """The events of a group in as few records as their limits allow."""
    batch, size = events_pb2.FeedbackBatch(), 0
    for waiting in group:
        accepted = AcceptedFeedback(waiting.event, accept_time).to_proto()
        length = accepted.ByteSize()
        if batch.events and (len(batch.events) >= MAX_RECORD_EVENTS or size + length > MAX_RECORD_BYTES):
            yield batch.SerializeToString()
            batch, size = events_pb2.FeedbackBatch(), 0
        batch.events.append(accepted)
        size += length
    yield batch.SerializeToString()


def _running() -> Future[Receipt]:
    """A future that a caller who goes away cannot cancel: others may wait for the same event."""
    future: Future[Receipt] = Future()
    future.set_running_or_notify_cancel()
    return future


def _settled(event: FeedbackEvent, body_hash: bytes, known: Accepted) -> Future[Receipt]:
    future = _running()
    _settle(future, event, body_hash, known)
    return future


def _settle(future: Future[Receipt], event: FeedbackEvent, body_hash: bytes, known: Accepted) -> None:
    """What a repeat of a stored event is told."""
    if body_hash == known.body_hash:
        future.set_result(Receipt(event.event_id, known.accept_time, repeated_event=True))
    else:
        message = f"event {event.event_id} was accepted with another body"
        future.set_exception(FeedbackConflict(message, metadata={"event_id": event.event_id}))
