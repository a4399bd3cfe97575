"""The contract of the event log, held against each implementation."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from attune.domain.errors import EventLogUnavailable, InvalidInput, OffsetOutOfRange, TopicHasWriter
from attune.platform.events.log import MAX_VALUE_BYTES, RETENTION_S, EventLog, Producer, Topic
from attune.platform.events.memory import MemoryEventLog
from attune.platform.events.sqlite import SqliteEventLog

TOPIC = Topic.FEEDBACK
ROOM_BYTES = 200_000


class Subject(Protocol):
    """An implementation under test, with one partition a topic."""

    log: EventLog

    def now_s(self) -> float:
        """The log's clock."""

    def drop(self, producer: Producer, records: int) -> None:
        """Retention: drops the first records of TOPIC, all appended before `pause`."""

    def pause(self) -> None:
        """Parts what retention drops from what it keeps."""


class Clock:
    """Seconds that only a test moves."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


class Embedded:
    """A log in this process or on its disk; its clock is the test's."""

    PAUSE_S = 100.0

    def __init__(self, log: EventLog, clock: Clock) -> None:
        self.log, self.clock = log, clock

    def now_s(self) -> float:
        return self.clock.now_s

    def pause(self) -> None:
        self.clock.now_s += self.PAUSE_S

    def drop(self, producer: Producer, records: int) -> None:
        assert producer.trim(self.clock.now_s + RETENTION_S[TOPIC] - self.PAUSE_S / 2) == records


class OnKafka:
    """The log on a real broker; its clock is the machine's."""

    def __init__(self, address: str, prefix: str) -> None:
        from attune.platform.events.kafka.log import KafkaEventLog
        from attune.platform.events.kafka.topics import Layout, Topics
        from attune.platform.events.settings import KafkaSettings

        settings = KafkaSettings(bootstrap=address, topic_prefix=prefix)
        self.log = KafkaEventLog(settings)
        self._address, self._name = address, prefix + TOPIC
        with Topics(settings, Layout(partitions=1)) as topics:
            topics.create()

    def now_s(self) -> float:
        return time.time()

    def pause(self) -> None:
        """Offsets part them already."""

    def drop(self, producer: Producer, records: int) -> None:
        from kafka import KafkaAdminClient, TopicPartition

        with KafkaAdminClient(bootstrap_servers=self._address) as admin:
            admin.delete_records({TopicPartition(self._name, 0): records})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
def open_embedded(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Callable[..., EventLog]:
    """Opens an embedded log: for what a broker decides by itself."""

    def build(max_bytes: int | None = None) -> EventLog:
        if request.param == "memory":
            return MemoryEventLog(max_bytes=max_bytes, clock=clock)
        return SqliteEventLog(tmp_path, max_bytes=max_bytes, clock=clock)

    return build


@pytest.fixture(params=["memory", "sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def subject(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Subject:
    if request.param == "kafka":
        return OnKafka(request.getfixturevalue("broker").address, request.getfixturevalue("topic_prefix"))
    log = MemoryEventLog(clock=clock) if request.param == "memory" else SqliteEventLog(tmp_path, clock=clock)
    return Embedded(log, clock)


@pytest.fixture
def log(subject: Subject) -> EventLog:
    return subject.log


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


def test_values_come_back_in_order_with_offsets(producer, consumer) -> None:
    first = producer.append([b"a", b""])
    second = producer.append([b"\x00\xff"])
    assert [(p.partition, p.offset) for p in first + second] == [(0, 0), (0, 1), (0, 2)]
    records = consumer.read(0, 0)
    assert [(r.partition, r.offset, r.value) for r in records] == [(0, 0, b"a"), (0, 1, b""), (0, 2, b"\x00\xff")]


def test_append_time_is_the_logs_clock(subject, producer, consumer) -> None:
    before_s = subject.now_s()
    producer.append([b"a", b"b"])
    subject.pause()
    producer.append([b"c"])
    times = [record.append_time for record in consumer.read(0, 0)]
    assert times == sorted(times)
    # A broker rounds its clock down to milliseconds.
    assert before_s - 0.001 <= times[0]
    assert times[2] <= subject.now_s()


def test_nothing_appended_moves_nothing(producer, consumer) -> None:
    assert producer.append([]) == []
    assert consumer.end_offset(0) == 0


def test_append_time_never_falls_in_an_embedded_log(open_embedded, clock) -> None:
    log = open_embedded()
    producer, consumer = log.producer(TOPIC), log.consumer(TOPIC)
    producer.append([b"a"])
    clock.now_s -= 3600
    producer.append([b"b"])
    assert [record.append_time for record in consumer.read(0, 0)] == [1_000_000.0, 1_000_000.0]
    producer.close()
    consumer.close()


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


def test_a_slow_reader_is_told_what_retention_dropped(subject, producer, consumer) -> None:
    producer.append([b"old"] * 3)
    assert [r.offset for r in consumer.read(0, 0, max_records=1)] == [0]
    subject.pause()
    producer.append([b"new"])
    subject.drop(producer, 3)
    late = subject.log.consumer(TOPIC)
    assert (late.first_offset(0), late.end_offset(0)) == (3, 4)
    with pytest.raises(OffsetOutOfRange) as caught:
        late.read(0, 1)
    assert caught.value.metadata["first_offset"] == "3"
    assert late.wait({0: 1}, 0.0)
    assert [r.value for r in late.read(0, 3)] == [b"new"]
    assert consumer.first_offset(0) == 3
    late.close()


def test_offsets_go_on_after_everything_was_dropped(subject, producer, consumer) -> None:
    producer.append([b"a"] * 2500)
    subject.pause()
    subject.drop(producer, 2500)
    assert (consumer.first_offset(0), consumer.end_offset(0)) == (2500, 2500)
    assert consumer.read(0, 2500) == []
    assert producer.append([b"b"])[0].offset == 2500


def test_an_embedded_log_is_trimmed_by_age(open_embedded, clock) -> None:
    producer = open_embedded().producer(TOPIC)
    producer.append([b"old"] * 3)
    clock.now_s += 100
    producer.append([b"new"])
    retention_s = RETENTION_S[TOPIC]
    assert producer.trim(clock.now_s + retention_s - 100) == 0
    assert producer.trim(clock.now_s + retention_s - 50) == 3
    producer.close()


def test_the_longest_value_fits_and_a_longer_one_is_refused_whole(producer, consumer) -> None:
    with pytest.raises(InvalidInput, match="longer than the event log takes"):
        producer.append([b"a", b"x" * (MAX_VALUE_BYTES + 1)])
    assert consumer.end_offset(0) == 0
    longest = bytes(MAX_VALUE_BYTES)
    producer.append([longest, b"b"])
    assert [len(r.value) for r in consumer.read(0, 0)] == [MAX_VALUE_BYTES]
    assert [r.value for r in consumer.read(0, 1)] == [b"b"]


def test_a_second_writer_of_an_embedded_log_is_refused_until_the_first_closes(open_embedded) -> None:
    log = open_embedded()
    producer = log.producer(TOPIC)
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


def test_a_report_moves_nothing(producer, consumer) -> None:
    producer.append([b"a", b"b"])
    consumer.report("readers", {0: 2})
    assert [r.value for r in consumer.read(0, 0)] == [b"a", b"b"]


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


def test_a_full_embedded_log_says_so_stores_nothing_and_recovers(open_embedded, clock) -> None:
    log = open_embedded(max_bytes=ROOM_BYTES)
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
