"""A producer whose writes wait for a gate, and events as the acceptor takes them."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from attune.api.events.v1 import events_pb2
from attune.domain.feedback import FeedbackEvent
from attune.feedback.ingest.reading import ReceivedEvent, read
from attune.platform.events.log import EventLog, Position, Producer, Topic

PATIENCE_S = 10.0


class GatedProducer:
    """Writes once the gate is open, and then fails if it has an error."""

    def __init__(self, inner: Producer) -> None:
        self.inner = inner
        self.gate = threading.Event()
        self.is_writing = threading.Event()
        self.error: BaseException | None = None

    def append(self, values: Sequence[bytes]) -> list[Position]:
        self.is_writing.set()
        assert self.gate.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        return self.inner.append(values)

    def trim(self, now_s: float) -> int:
        return self.inner.trim(now_s)

    def close(self) -> None:
        self.inner.close()


def received(event: FeedbackEvent) -> ReceivedEvent:
    return read(event.to_proto(), "event")


def stored(log: EventLog) -> list[list[str]]:
    """Event ids by record."""
    consumer = log.consumer(Topic.FEEDBACK)
    records = consumer.read(0, 0, max_records=10_000, max_bytes=1 << 30)
    consumer.close()
    batches = [events_pb2.FeedbackBatch.FromString(record.value) for record in records]
    return [[accepted.event.event_id for accepted in batch.events] for batch in batches]
