"""The producer on a real broker that is killed, away or frozen: what was acknowledged is there, and nothing waits."""

from __future__ import annotations

import gc
import resource
import threading
import time
from collections.abc import Iterator

import pytest
from attune.domain.errors import EventLogUnavailable
from attune.platform.events.kafka.log import KafkaEventLog
from attune.platform.events.kafka.producer import KafkaTopicProducer
from attune.platform.events.log import Position, Topic
from attune.platform.events.settings import KafkaSettings
from broker import Broker
from support.eventually import eventually_sync
from support.kafka import read_all

pytestmark = pytest.mark.kafka
TOPIC = Topic.FEEDBACK
QUICK_S = 0.6
SLACK_S = 5.0


@pytest.fixture
def log(kafka_settings: KafkaSettings) -> KafkaEventLog:
    return KafkaEventLog(kafka_settings)


@pytest.fixture
def hasty(kafka_settings: KafkaSettings) -> Iterator[KafkaTopicProducer]:
    """A producer that gives an append little time."""
    producer = KafkaEventLog(kafka_settings.model_copy(update={"append_timeout_s": QUICK_S})).producer(TOPIC)
    yield producer
    producer.close()


def threads_of_clients() -> int:
    return sum("attune" in thread.name for thread in threading.enumerate())


def resident_mib() -> float:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / 2**20


def test_appends_are_spread_over_the_partitions(log: KafkaEventLog) -> None:
    producer = log.producer(TOPIC)
    partitions = {producer.append([b"x"])[0].partition for _ in range(40)}
    assert partitions == {0, 1, 2}
    positions = producer.append([bytes(600_000) for _ in range(6)])
    assert len({p.partition for p in positions}) > 1
    producer.close()
    assert len(read_all(log, TOPIC)) == 46


@pytest.mark.slow
def test_what_was_acknowledged_is_there_once_through_kills_of_the_broker(log: KafkaEventLog, broker: Broker) -> None:
    acknowledged: dict[Position, bytes] = {}
    producer, stop = log.producer(TOPIC), threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            values = [f"{number + i}".encode() for i in range(1 + number % 5)]
            number += len(values)
            try:
                positions = producer.append(values)
            except EventLogUnavailable:
                continue
            acknowledged.update(zip(positions, values, strict=True))

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(3):
        seen = len(acknowledged)
        eventually_sync(lambda seen=seen: len(acknowledged) > seen + 200, 60)
        broker.kill()
        broker.start()
    seen = len(acknowledged)
    eventually_sync(lambda: len(acknowledged) > seen + 200, 60)
    stop.set()
    writer.join()
    producer.close()
    records = read_all(log, TOPIC)
    values = [record.value for record in records]
    stored = {Position(record.partition, record.offset): record.value for record in records}
    assert {position: stored.get(position) for position in acknowledged} == acknowledged
    assert len(set(values)) == len(values)


@pytest.mark.slow
def test_a_broker_that_is_away_costs_bounded_time_and_no_memory(hasty: KafkaTopicProducer, broker: Broker) -> None:
    hasty.append([b"before"])
    value, before_threads = bytes(4_000_000), threads_of_clients()
    broker.kill()
    try:
        for attempt in range(12):
            started = time.monotonic()
            with pytest.raises(EventLogUnavailable):
                hasty.append([value])
            assert time.monotonic() - started < QUICK_S + SLACK_S
            if attempt == 3:
                gc.collect()
                base_mib = resident_mib()
        gc.collect()
        assert resident_mib() - base_mib < 8
        eventually_sync(lambda: threads_of_clients() < before_threads)
    finally:
        broker.start()
    eventually_sync(lambda: is_stored(hasty, b"after"), 30)


def is_stored(producer: KafkaTopicProducer, value: bytes) -> bool:
    try:
        return bool(producer.append([value]))
    except EventLogUnavailable:
        return False


def test_a_broker_that_does_not_answer_is_given_up_in_time_and_gets_nothing_later(
    log: KafkaEventLog, hasty: KafkaTopicProducer, broker: Broker
) -> None:
    hasty.append([b"first"])
    with broker.frozen():
        for _ in range(3):
            started = time.monotonic()
            with pytest.raises(EventLogUnavailable):
                hasty.append([b"lost answer"])
            assert time.monotonic() - started < QUICK_S + SLACK_S
    eventually_sync(lambda: is_stored(hasty, b"last"), 30)
    values = [record.value for record in read_all(log, TOPIC)]
    assert values.count(b"first") == 1
    assert b"last" in values
    # Only the attempt that left before the freeze was noticed may have reached the broker.
    assert values.count(b"lost answer") <= 1


def test_a_topic_that_was_not_made_is_named(kafka_settings: KafkaSettings) -> None:
    settings = kafka_settings.model_copy(update={"append_timeout_s": QUICK_S, "topic_prefix": "never-made."})
    producer = KafkaEventLog(settings).producer(TOPIC)
    with pytest.raises(EventLogUnavailable, match=r"never-made\.attune\.feedback: `attune topics create` makes it"):
        producer.append([b"a"])
    producer.close()


def test_a_producer_never_used_opens_and_closes_without_a_broker() -> None:
    producer = KafkaEventLog(KafkaSettings(bootstrap="127.0.0.1:1")).producer(TOPIC)
    producer.close()
    producer.close()
