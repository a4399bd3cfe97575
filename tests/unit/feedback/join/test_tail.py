"""Both topics as one stream by log time, whatever the size of the batches."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import pytest
from attune.feedback.join.tail import Tail
from attune.platform.events.log import Record, Topic
from attune.platform.events.memory import MemoryConsumer, MemoryEventLog

MICROSECONDS = 1_000_000


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> MemoryEventLog:
    return MemoryEventLog(partitions=2, clock=clock)


def a_tail(log: MemoryEventLog, clock: Clock, batch_records: int = 100) -> Tail:
    consumers = {topic: log.consumer(topic) for topic in (Topic.GENERATIONS, Topic.FEEDBACK)}
    return Tail(consumers, lambda topic, partition, first: first, batch_records=batch_records, clock=clock)


def filled(log: MemoryEventLog, clock: Clock, records: int = 60) -> None:
    dice = random.Random(7)
    producers = [log.producer(Topic.GENERATIONS), log.producer(Topic.FEEDBACK)]
    for number in range(records):
        clock.now += dice.choice([0, 0, 1])
        dice.choice(producers).append([b"%d" % number])


def everything(tail: Tail) -> list[tuple[float, bytes]]:
    found = []
    while (batch := tail.read()).records:
        found += [(record.append_time, record.value) for _, record in batch.records]
        tail.advance(batch)
    return found


def test_records_come_in_the_order_of_log_time(log: MemoryEventLog, clock: Clock) -> None:
    filled(log, clock)
    found = everything(a_tail(log, clock))
    assert len(found) == 60
    assert [t for t, _ in found] == sorted(t for t, _ in found)


@pytest.mark.parametrize("batch_records", [1, 2, 3, 7])
def test_the_order_does_not_depend_on_the_size_of_batches(
    log: MemoryEventLog, clock: Clock, batch_records: int
) -> None:
    filled(log, clock)
    assert everything(a_tail(log, clock, batch_records)) == everything(a_tail(log, clock))


class Skewed:
    """A partition whose records say their log time in their value: the clocks of its brokers differ."""

    def __init__(self, consumer: MemoryConsumer) -> None:
        self._consumer = consumer

    def read(self, partition: int, next_offset: int, max_records: int) -> list[Record]:
        found = self._consumer.read(partition, next_offset, max_records)
        return [replace(record, append_time=float(record.value)) for record in found]

    def __getattr__(self, name: str) -> object:
        return getattr(self._consumer, name)


@pytest.mark.parametrize("batch_records", [1, 2, 3, 100])
def test_no_record_is_passed_over_where_log_time_falls(log: MemoryEventLog, clock: Clock, batch_records: int) -> None:
    dice = random.Random(3)
    producers = {topic: log.producer(topic) for topic in (Topic.GENERATIONS, Topic.FEEDBACK)}
    for number in range(80):
        dice.choice(list(producers.values())).append([b"%d" % (number + dice.choice([0, 0, -3, -9]))])
    consumers = {topic: Skewed(log.consumer(topic)) for topic in producers}
    tail = Tail(consumers, lambda topic, partition, first: first, batch_records=batch_records, clock=clock)  # type: ignore[arg-type]
    offsets: dict[tuple[Topic, int], list[int]] = defaultdict(list)
    while (batch := tail.read()).records:
        for topic, record in batch.records:
            offsets[topic, record.partition].append(record.offset)
        tail.advance(batch)
    assert sum(map(len, offsets.values())) == 80
    assert all(found == list(range(len(found))) for found in offsets.values())


def test_nothing_moves_before_the_commit(log: MemoryEventLog, clock: Clock) -> None:
    filled(log, clock, 5)
    tail = a_tail(log, clock)
    assert tail.read() == tail.read()
    assert tail.lag_records(Topic.GENERATIONS) + tail.lag_records(Topic.FEEDBACK) == 5


def test_a_topic_at_its_end_is_read_up_to_now_less_the_slack(log: MemoryEventLog, clock: Clock) -> None:
    filled(log, clock, 6)
    tail = a_tail(log, clock, batch_records=1)
    assert tail.read_us(Topic.FEEDBACK) == 0
    everything(tail)
    clock.now += 100
    tail.read()
    assert tail.read_us(Topic.FEEDBACK) == round((clock.now - 5) * MICROSECONDS)
    assert tail.lag_s(Topic.FEEDBACK) == 0


def test_a_topic_with_unread_records_is_read_up_to_its_last_one(log: MemoryEventLog, clock: Clock) -> None:
    producer = log.producer(Topic.FEEDBACK)
    for _ in range(8):
        clock.now += 1
        producer.append([b"x"])
    tail = a_tail(log, clock, batch_records=1)
    tail.advance(tail.read())
    clock.now += 50
    tail.advance(tail.read())
    assert tail.read_us(Topic.FEEDBACK) < 1009 * MICROSECONDS
    assert tail.lag_records(Topic.FEEDBACK) > 0
    assert tail.lag_s(Topic.FEEDBACK) > 50


class Operated:
    """A consumer whose operators listen."""

    def __init__(self, consumer: MemoryConsumer) -> None:
        self._consumer = consumer
        self.told: list[tuple[str, dict[int, int]]] = []

    def report(self, group: str, next_offsets: Mapping[int, int]) -> None:
        self.told.append((group, dict(next_offsets)))

    def __getattr__(self, name: str) -> object:
        return getattr(self._consumer, name)


def test_operators_are_told_what_was_committed(log: MemoryEventLog, clock: Clock) -> None:
    producer = log.producer(Topic.FEEDBACK)
    producer.append([b"a", b"b", b"c"])
    consumer = Operated(log.consumer(Topic.FEEDBACK))
    tail = Tail({Topic.FEEDBACK: consumer}, lambda topic, partition, first: first, clock=clock)  # type: ignore[dict-item]
    batch = tail.read()
    tail.report("readers")
    tail.advance(batch)
    tail.report("readers")
    assert consumer.told == [("readers", {0: 0, 1: 0}), ("readers", {0: 2, 1: 1})]


def test_a_wait_ends_with_news_and_with_a_stop(log: MemoryEventLog, clock: Clock) -> None:
    tail, stop = a_tail(log, clock), threading.Event()
    producer = log.producer(Topic.FEEDBACK)
    started = time.monotonic()
    threading.Timer(0.01, producer.append, [[b"x"]]).start()
    tail.wait(20.0, stop)
    assert tail.read().records
    tail.advance(tail.read())
    stop.set()
    tail.wait(20.0, stop)
    assert time.monotonic() - started < 10
    tail.close()
