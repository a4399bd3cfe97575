"""Group commit, repeats, conflicts and refusals, against small real logs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, wait
from pathlib import Path

import pytest
from attune.api.events.v1 import events_pb2
from attune.domain.errors import EventLogUnavailable, FeedbackConflict, QueueFull
from attune.domain.feedback import Demonstration, Rating
from attune.feedback.ingest.acceptor import MAX_RECORD_BYTES, Acceptor, Receipt
from attune.platform.events.log import Position, Topic
from attune.platform.events.memory import MemoryEventLog, MemoryProducer
from attune.platform.events.sqlite import SqliteEventLog
from feedback_samples import NOON_S, an_event, an_id, completion

PATIENCE_S = 10.0


class GatedProducer:
    """A producer whose writes wait until the gate opens, and which may then fail."""

    def __init__(self, inner: MemoryProducer) -> None:
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


@pytest.fixture
def log() -> MemoryEventLog:
    return MemoryEventLog(clock=lambda: NOON_S)


@pytest.fixture
def gated(log: MemoryEventLog) -> GatedProducer:
    return GatedProducer(log.producer(Topic.FEEDBACK))


def stored(log: MemoryEventLog | SqliteEventLog) -> list[list[str]]:
    """Event ids by record."""
    consumer = log.consumer(Topic.FEEDBACK)
    records = consumer.read(0, 0, max_records=10_000, max_bytes=1 << 30)
    batches = [events_pb2.FeedbackBatch.FromString(record.value) for record in records]
    consumer.close()
    return [[accepted.event.event_id for accepted in batch.events] for batch in batches]


def receipt_of(future: Future[Receipt]) -> Receipt:
    return future.result(PATIENCE_S)


def test_an_event_is_confirmed_once_the_log_has_it(log: MemoryEventLog, gated: GatedProducer) -> None:
    with Acceptor(gated, clock=lambda: NOON_S) as acceptor:
        outcome = acceptor.submit(an_event())
        assert gated.is_writing.wait(PATIENCE_S)
        assert not outcome.done()
        gated.gate.set()
        assert receipt_of(outcome) == Receipt(an_id(1001), NOON_S, repeated_event=False)
    assert stored(log) == [[an_id(1001)]]


def test_events_that_come_during_a_write_share_the_next_one(log: MemoryEventLog, gated: GatedProducer) -> None:
    with Acceptor(gated) as acceptor:
        outcomes = [acceptor.submit(an_event(0))]
        assert gated.is_writing.wait(PATIENCE_S)
        outcomes += [acceptor.submit(an_event(number)) for number in range(1, 50)]
        gated.gate.set()
        wait(outcomes, PATIENCE_S)
    assert [len(record) for record in stored(log)] == [1, 49]


def test_a_repeat_is_confirmed_with_the_first_receipt_and_not_written(
    log: MemoryEventLog, gated: GatedProducer
) -> None:
    gated.gate.set()
    with Acceptor(gated, clock=iter([1.0, 2.0, 3.0]).__next__) as acceptor:
        first = receipt_of(acceptor.submit(an_event()))
        again = receipt_of(acceptor.submit(an_event()))
    assert again == Receipt(first.event_id, first.accept_time, repeated_event=True)
    assert stored(log) == [[an_id(1001)]]


def test_another_body_under_a_stored_id_is_a_conflict(log: MemoryEventLog, gated: GatedProducer) -> None:
    gated.gate.set()
    with Acceptor(gated) as acceptor:
        receipt_of(acceptor.submit(an_event()))
        with pytest.raises(FeedbackConflict):
            receipt_of(acceptor.submit(an_event(1, Rating(completion(1), 0.0))))
        receipt_of(acceptor.submit(an_event(1, Rating(completion(1), 0.0), app_id="other")))
    assert len(stored(log)) == 2


def test_calls_in_flight_with_one_id_share_the_fate_of_the_first(log: MemoryEventLog, gated: GatedProducer) -> None:
    with Acceptor(gated) as acceptor:
        first = acceptor.submit(an_event())
        same = acceptor.submit(an_event())
        other = acceptor.submit(an_event(1, Rating(completion(1), 0.0)))
        assert not same.done()
        assert not other.done()
        gated.gate.set()
        assert receipt_of(first).repeated_event is False
        assert receipt_of(same).repeated_event is True
        with pytest.raises(FeedbackConflict):
            receipt_of(other)
    assert stored(log) == [[an_id(1001)]]


def test_a_failed_write_confirms_and_remembers_nothing(log: MemoryEventLog, gated: GatedProducer) -> None:
    gated.error = EventLogUnavailable("no space")
    with Acceptor(gated) as acceptor:
        outcomes = [acceptor.submit(an_event()), acceptor.submit(an_event())]
        outcomes.append(acceptor.submit(an_event(1, Rating(completion(1), 0.0))))
        gated.gate.set()
        for outcome in outcomes:
            with pytest.raises(EventLogUnavailable) as caught:
                receipt_of(outcome)
            assert caught.value.retry_after_s
        gated.error = None
        assert receipt_of(acceptor.submit(an_event())).repeated_event is False
    assert stored(log) == [[an_id(1001)]]


def test_the_queue_is_bounded(gated: GatedProducer) -> None:
    with Acceptor(gated, queue_events=3) as acceptor:
        outcomes = [acceptor.submit(an_event(number)) for number in range(3)]
        with pytest.raises(QueueFull) as caught:
            acceptor.submit(an_event(9))
        assert caught.value.retry_after_s
        outcomes.append(acceptor.submit(an_event(0)))
        gated.gate.set()
        wait(outcomes, PATIENCE_S)
        receipt_of(acceptor.submit(an_event(9)))


def test_leaving_drains_the_queue_and_then_refuses(log: MemoryEventLog, gated: GatedProducer) -> None:
    with Acceptor(gated) as acceptor:
        outcomes = [acceptor.submit(an_event(number)) for number in range(20)]
        threading.Timer(0.0, gated.gate.set).start()
    assert all(outcome.done() for outcome in outcomes)
    assert sum(map(len, stored(log))) == 20
    with pytest.raises(EventLogUnavailable):
        acceptor.submit(an_event(99))


def test_ids_are_forgotten_from_the_oldest_on(log: MemoryEventLog, gated: GatedProducer) -> None:
    gated.gate.set()
    with Acceptor(gated, remembered_events=2) as acceptor:
        for number in (1, 2, 1, 3):
            receipt_of(acceptor.submit(an_event(number)))
        assert receipt_of(acceptor.submit(an_event(1))).repeated_event is True
        assert receipt_of(acceptor.submit(an_event(2))).repeated_event is False


def test_a_group_is_cut_into_records_of_bounded_size(log: MemoryEventLog, gated: GatedProducer) -> None:
    with Acceptor(gated) as acceptor:
        outcomes = [acceptor.submit(an_event(0))]
        assert gated.is_writing.wait(PATIENCE_S)
        long = Demonstration(completion(1), "x" * 90_000)
        outcomes += [acceptor.submit(an_event(number, long)) for number in range(1, 20)]
        gated.gate.set()
        wait(outcomes, PATIENCE_S)
    consumer = log.consumer(Topic.FEEDBACK)
    sizes = [len(record.value) for record in consumer.read(0, 0, max_bytes=1 << 30)]
    assert max(sizes) < MAX_RECORD_BYTES + 1024
    assert sum(map(len, stored(log))) == 20


def test_an_error_nobody_expects_ends_the_thread_and_fails_every_caller(gated: GatedProducer) -> None:
    gated.error = RuntimeError("a bug")
    with Acceptor(gated) as acceptor:
        outcome = acceptor.submit(an_event())
        gated.gate.set()
        with pytest.raises(RuntimeError, match="a bug"):
            receipt_of(outcome)
    assert isinstance(acceptor.failure.exception(PATIENCE_S), RuntimeError)
    with pytest.raises(EventLogUnavailable):
        acceptor.submit(an_event(2))


def test_a_caller_who_goes_away_cannot_cancel_the_write(log: MemoryEventLog, gated: GatedProducer) -> None:
    with Acceptor(gated) as acceptor:
        outcome = acceptor.submit(an_event())
        assert not outcome.cancel()
        gated.gate.set()
        receipt_of(outcome)
    assert stored(log) == [[an_id(1001)]]


def test_a_full_disk_refuses_and_a_freed_one_accepts(tmp_path: Path) -> None:
    small = SqliteEventLog(tmp_path, max_bytes=200_000)
    producer = small.producer(Topic.FEEDBACK)
    long = "x" * 20_000
    refused: list[int] = []
    with Acceptor(producer) as acceptor:
        for number in range(30):
            outcome = acceptor.submit(an_event(number, Demonstration(completion(1), long)))
            if isinstance(outcome.exception(PATIENCE_S), EventLogUnavailable):
                refused.append(number)
    producer.close()
    assert refused
    before = {name for record in stored(small) for name in record}
    assert before == {an_id(1000 + number) for number in range(30) if number not in refused}

    roomy = SqliteEventLog(tmp_path)
    producer = roomy.producer(Topic.FEEDBACK)
    with Acceptor(producer) as acceptor:
        for number in refused:
            receipt_of(acceptor.submit(an_event(number, Demonstration(completion(1), long))))
    producer.close()
    names = [name for record in stored(roomy) for name in record]
    assert sorted(names) == sorted({an_id(1000 + number) for number in range(30)})
