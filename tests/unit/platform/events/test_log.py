"""The contract of the event log, held against each implementation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attune.domain.errors import EventLogUnavailable, OffsetOutOfRange, TopicHasWriter
from attune.platform.events.log import RETENTION_S, EventLog, Topic
from attune.platform.events.memory import MemoryEventLog
from attune.platform.events.sqlite import SqliteEventLog

TOPIC = Topic.FEEDBACK
ROOM_BYTES = 200_000


class Clock:
    """Seconds that only a test moves."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
def open_log(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Callable[..., EventLog]:
    def build(max_bytes: int | None = None) -> EventLog:
        if request.param == "memory":
            return MemoryEventLog(max_bytes=max_bytes, clock=clock)
        return SqliteEventLog(tmp_path, max_bytes=max_bytes, clock=clock)

    return build


@pytest.fixture
def log(open_log: Callable[..., EventLog]) -> EventLog:
    return open_log()


@pytest.fixture
def producer(log: EventLog) -> Iterator:
    opened = log.producer(TOPIC)
    yield opened
    opened.close()


@pytest.fixture
def consumer(log: EventLog) -> Iterator:
    opened = log.consumer(TOPIC)
    yield opened
    opened.close()


def test_a_topic_without_records_is_empty(consumer) -> None:
    assert consumer.partitions() == [0]
    assert (consumer.first_offset(0), consumer.end_offset(0)) == (0, 0)
    assert consumer.read(0, 0) == []


def test_values_come_back_in_order_with_offsets_and_the_logs_time(producer, consumer, clock) -> None:
    first = producer.append([b"a", b""])
    clock.now_s += 5
    second = producer.append([b"\x00\xff"])
    assert [p.offset for p in first + second] == [0, 1, 2]
    records = consumer.read(0, 0)
    assert [(r.partition, r.offset, r.value) for r in records] == [(0, 0, b"a"), (0, 1, b""), (0, 2, b"\x00\xff")]
    assert [r.append_time for r in records] == [1_000_000.0, 1_000_000.0, 1_000_005.0]


def test_nothing_appended_moves_nothing(producer, consumer) -> None:
    assert producer.append([]) == []
    assert consumer.end_offset(0) == 0


def test_append_time_never_falls(producer, consumer, clock) -> None:
    producer.append([b"a"])
    clock.now_s -= 3600
    producer.append([b"b"])
    times = [record.append_time for record in consumer.read(0, 0)]
    assert times == [1_000_000.0, 1_000_000.0]


def test_reading_starts_where_asked_and_keeps_its_bounds(producer, consumer) -> None:
    producer.append([b"x" * 100 for _ in range(10)])
    assert [r.offset for r in consumer.read(0, 4)] == [4, 5, 6, 7, 8, 9]
    assert [r.offset for r in consumer.read(0, 4, max_records=2)] == [4, 5]
    assert [r.offset for r in consumer.read(0, 4, max_bytes=300)] == [4, 5, 6]
    assert [r.offset for r in consumer.read(0, 4, max_bytes=1)] == [4]
    assert consumer.read(0, 10) == []
    assert consumer.end_offset(0) == 10


def test_an_offset_beyond_the_end_is_reported(producer, consumer) -> None:
    producer.append([b"a"])
    with pytest.raises(OffsetOutOfRange) as caught:
        consumer.read(0, 2)
    assert caught.value.metadata["end_offset"] == "1"
    assert consumer.wait({0: 2}, 0.0)


def test_an_unknown_partition_is_refused(consumer) -> None:
    with pytest.raises(LookupError):
        consumer.read(7, 0)


def test_topics_are_apart(log, producer) -> None:
    producer.append([b"a"])
    other = log.consumer(Topic.GENERATIONS)
    assert other.end_offset(0) == 0
    other.close()


def test_trimming_drops_by_age_and_a_slow_reader_is_told(producer, consumer, clock) -> None:
    producer.append([b"old"] * 3)
    clock.now_s += 100
    producer.append([b"new"])
    retention_s = RETENTION_S[TOPIC]
    assert producer.trim(clock.now_s + retention_s - 100) == 0
    assert producer.trim(clock.now_s + retention_s - 50) == 3
    assert (consumer.first_offset(0), consumer.end_offset(0)) == (3, 4)
    with pytest.raises(OffsetOutOfRange) as caught:
        consumer.read(0, 1)
    assert caught.value.metadata["first_offset"] == "3"
    assert [r.value for r in consumer.read(0, 3)] == [b"new"]


def test_offsets_go_on_after_everything_was_trimmed(producer, consumer, clock) -> None:
    producer.append([b"a"] * 2500)
    assert producer.trim(clock.now_s + RETENTION_S[TOPIC] + 1) == 2500
    assert (consumer.first_offset(0), consumer.end_offset(0)) == (2500, 2500)
    assert producer.append([b"b"])[0].offset == 2500


def test_a_second_writer_is_refused_until_the_first_closes(log, producer) -> None:
    with pytest.raises(TopicHasWriter):
        log.producer(TOPIC)
    producer.append([b"a"])
    producer.close()
    second = log.producer(TOPIC)
    assert second.append([b"b"])[0].offset == 1
    second.close()


def test_a_closed_producer_stores_nothing(producer) -> None:
    producer.close()
    with pytest.raises(EventLogUnavailable):
        producer.append([b"a"])


def test_wait_returns_at_once_when_there_is_something(producer, consumer) -> None:
    assert not consumer.wait({0: 0}, 0.0)
    producer.append([b"a"])
    assert consumer.wait({0: 0}, 60.0)
    assert not consumer.wait({0: 1}, 0.01)


def test_wait_wakes_for_a_record_of_another_thread(producer, consumer) -> None:
    timer = threading.Timer(0.05, producer.append, [[b"a"]])
    timer.start()
    assert consumer.wait({0: 0}, 60.0)
    timer.join()


def test_closing_ends_a_wait(consumer) -> None:
    timer = threading.Timer(0.05, consumer.close)
    timer.start()
    assert not consumer.wait({0: 0}, 60.0)
    timer.join()


def test_threads_share_a_producer_without_gap_or_duplicate(producer, consumer) -> None:
    def write(name: int) -> None:
        for index in range(20):
            producer.append([f"{name}-{index}-{part}".encode() for part in range(3)])

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = consumer.read(0, 0, max_records=1000)
    assert [r.offset for r in records] == list(range(240))
    assert len({r.value for r in records}) == 240
    # One call's values lie together and in order.
    values = [r.value.rpartition(b"-") for r in records]
    assert all(values[i][0] == values[i + 2][0] and values[i][2] == b"0" for i in range(0, 240, 3))


def test_a_full_log_says_so_stores_nothing_and_recovers(open_log, clock) -> None:
    log = open_log(max_bytes=ROOM_BYTES)
    producer, consumer = log.producer(TOPIC), log.consumer(TOPIC)
    stored = 0
    with pytest.raises(EventLogUnavailable):  # noqa: PT012 - how many fit is the implementation's affair
        for _ in range(1000):
            stored += len(producer.append([b"x" * 1000] * 10))
    assert stored > 50
    assert consumer.end_offset(0) == stored
    with pytest.raises(EventLogUnavailable):
        producer.append([b"x" * 1000] * 50)
    assert consumer.end_offset(0) == stored
    clock.now_s += RETENTION_S[TOPIC] + 1
    assert producer.trim(clock.now_s) == stored
    assert producer.append([b"again"])[0].offset == stored
    assert [r.value for r in consumer.read(0, stored)] == [b"again"]
    producer.close()
    consumer.close()
