"""The consumer on a real broker: several partitions, gaps in the offsets, a broker that goes, bounded memory."""

from __future__ import annotations

import logging
import resource
import threading
import time
from collections.abc import Iterator

import pytest
from attune.domain.errors import EventLogUnavailable, TopicChanged
from attune.platform.events.kafka.consumer import KafkaTopicConsumer
from attune.platform.events.kafka.log import KafkaEventLog
from attune.platform.events.log import MAX_READ_BYTES, Topic
from attune.platform.events.settings import KafkaSettings
from broker import Broker
from kafka import KafkaAdminClient, KafkaProducer
from support.eventually import eventually_sync
from support.kafka import set_topic

pytestmark = pytest.mark.kafka
TOPIC = Topic.FEEDBACK
QUICK_S = 0.6
SLACK_S = 5.0
EMPTY = {0: 0, 1: 0, 2: 0}


@pytest.fixture
def consumer(kafka_settings: KafkaSettings) -> Iterator[KafkaTopicConsumer]:
    one = KafkaEventLog(kafka_settings).consumer(TOPIC)
    yield one
    one.close()


@pytest.fixture
def writer(kafka_settings: KafkaSettings) -> Iterator[KafkaProducer]:
    """The library itself, to write what Attune's producer would not."""
    client = KafkaProducer(bootstrap_servers=kafka_settings.bootstrap, transactional_id=kafka_settings.topic_prefix)
    client.init_transactions()
    yield client
    client.close()


def name(settings: KafkaSettings) -> str:
    return settings.topic_prefix + TOPIC


def write(client: KafkaProducer, topic: str, values: list[bytes], partition: int = 0, *, commit: bool = True) -> None:
    client.begin_transaction()
    for value in values:
        client.send(topic, value, partition=partition)
    if commit:
        client.commit_transaction()
    else:
        client.flush()
        client.abort_transaction()


def test_a_record_of_any_partition_ends_a_wait(consumer: KafkaTopicConsumer, kafka_settings: KafkaSettings) -> None:
    assert consumer.partitions() == [0, 1, 2]
    producer = KafkaEventLog(kafka_settings).producer(TOPIC)
    seen = dict(EMPTY)
    for _ in range(6):
        assert not consumer.wait(seen, 0.0)
        timer = threading.Timer(0.05, producer.append, [[b"x"]])
        timer.start()
        assert consumer.wait(seen, 30.0)
        timer.join()
        for partition, offset in seen.items():
            seen[partition] = offset + len(consumer.read(partition, offset))
    assert sum(seen.values()) == 6
    producer.close()


def test_a_position_is_the_callers_to_choose(
    consumer: KafkaTopicConsumer, writer: KafkaProducer, kafka_settings: KafkaSettings
) -> None:
    write(writer, name(kafka_settings), [f"{n}".encode() for n in range(2000)], partition=1)
    assert [r.offset for r in consumer.read(1, 0, max_records=3)] == [0, 1, 2]
    assert [r.offset for r in consumer.read(1, 2, max_records=2)] == [2, 3]
    assert [r.offset for r in consumer.read(1, 1900, max_records=2)] == [1900, 1901]
    assert [r.offset for r in consumer.read(1, 0, max_records=2)] == [0, 1]
    assert consumer.end_offset(1) == 2001  # the marker of the transaction has the last offset
    assert consumer.read(0, 0) == []


def test_gaps_and_aborted_records_are_passed_over(
    consumer: KafkaTopicConsumer, writer: KafkaProducer, kafka_settings: KafkaSettings
) -> None:
    topic = name(kafka_settings)
    write(writer, topic, [b"a", b"b"])  # offsets 0, 1, and a marker at 2
    write(writer, topic, [b"never"], commit=False)  # 3, 4
    write(writer, topic, [b"c"])  # 5, 6
    assert [(r.offset, r.value) for r in consumer.read(0, 0)] == [(0, b"a"), (1, b"b"), (5, b"c")]
    assert [(r.offset, r.value) for r in consumer.read(0, 2)] == [(5, b"c")]
    # Behind the last record only a marker is left: for a reader the partition ends here.
    assert consumer.read(0, 6) == []
    assert consumer.end_offset(0) == 6
    assert not consumer.wait(EMPTY | {0: 6}, 0.0)
    assert not consumer.wait(EMPTY | {0: 6}, 0.1)
    write(writer, topic, [b"d"])
    assert consumer.wait(EMPTY | {0: 6}, 30.0)
    assert [(r.offset, r.value) for r in consumer.read(0, 6)] == [(7, b"d")]


def test_a_broker_that_is_away_is_said_in_time_and_reading_goes_on(
    kafka_settings: KafkaSettings, broker: Broker
) -> None:
    log = KafkaEventLog(kafka_settings.model_copy(update={"request_timeout_s": QUICK_S, "append_timeout_s": 30}))
    consumer, producer = log.consumer(TOPIC), log.producer(TOPIC)
    (position,) = producer.append([b"before"])
    assert [r.value for r in consumer.read(position.partition, 0)] == [b"before"]
    broker.kill()
    try:
        # What was fetched before can still be read, but nothing else.
        other = (position.partition + 1) % 3
        for ask in (lambda: consumer.read(other, 0), lambda: consumer.end_offset(0), lambda: consumer.wait(EMPTY, 0.0)):
            started = time.monotonic()
            with pytest.raises(EventLogUnavailable):
                ask()
            assert time.monotonic() - started < 2 * QUICK_S + SLACK_S
    finally:
        broker.start()
    seen = {**EMPTY, position.partition: 1}
    eventually_sync(lambda: has_end(consumer, position.partition, 1), 30)
    (later,) = producer.append([b"after"])
    eventually_sync(lambda: consumer.wait(seen, 0.1), 30)
    assert [r.value for r in consumer.read(later.partition, seen[later.partition])] == [b"after"]
    producer.close()
    consumer.close()


def has_end(consumer: KafkaTopicConsumer, partition: int, offset: int) -> bool:
    try:
        return consumer.end_offset(partition) == offset
    except EventLogUnavailable:
        return False


def test_a_broker_that_does_not_answer_is_given_up_in_time(kafka_settings: KafkaSettings, broker: Broker) -> None:
    consumer = KafkaEventLog(kafka_settings.model_copy(update={"request_timeout_s": QUICK_S})).consumer(TOPIC)
    assert consumer.read(0, 0) == []
    with broker.frozen():
        started = time.monotonic()
        with pytest.raises(EventLogUnavailable):
            consumer.read(0, 0)
        assert time.monotonic() - started < 2 * QUICK_S + SLACK_S
    eventually_sync(lambda: has_end(consumer, 0, 0), 30)
    consumer.close()


def test_what_is_not_read_does_not_fill_the_memory(
    consumer: KafkaTopicConsumer, writer: KafkaProducer, kafka_settings: KafkaSettings
) -> None:
    value, records = bytes(500_000), 120
    for partition in (0, 1, 2):
        write(writer, name(kafka_settings), [value] * records, partition)
    assert all(consumer.read(partition, 0, max_records=1) for partition in (0, 1, 2))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    offset = 0
    while found := consumer.read(0, offset):
        offset = found[-1].offset + 1
        assert consumer.wait({0: 0, 1: 0, 2: 0}, 0.05)
    assert offset == records
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mib < 20 * MAX_READ_BYTES / 2**20  # of 120 MB that nobody reads


def test_records_with_their_senders_time_are_warned_about(
    kafka_settings: KafkaSettings, writer: KafkaProducer, caplog: pytest.LogCaptureFixture
) -> None:
    topic = name(kafka_settings)
    set_topic(kafka_settings, topic, message_timestamp_type="CreateTime")
    write(writer, topic, [b"a", b"b"])
    consumer = KafkaEventLog(kafka_settings).consumer(TOPIC)
    with caplog.at_level(logging.WARNING):
        assert len(consumer.read(0, 0)) == 2
    assert [record.message for record in caplog.records].count(f"{topic} holds records with their sender's time, not "
        "the log's: `attune topics check` says what to set") == 1  # fmt: skip
    consumer.close()


def test_partitions_that_are_added_end_the_reading(kafka_settings: KafkaSettings) -> None:
    log = KafkaEventLog(kafka_settings)
    old, late = log.consumer(TOPIC), log.consumer(TOPIC)
    assert old.read(0, 0) == []
    assert len(late.partitions()) == 3
    with KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap) as admin:
        admin.create_partitions({name(kafka_settings): 4})
    late.close()
    late = log.consumer(TOPIC)
    assert late.read(3, 0) == []
    old._client._cluster.request_update()  # what a minute does
    eventually_sync(lambda: has_changed(old), 30)
    with pytest.raises(TopicChanged, match="4 partitions; 3 when reading began"):
        old.read(0, 0)
    old.close()
    late.close()


def has_changed(consumer: KafkaTopicConsumer) -> bool:
    try:
        consumer.end_offset(0)
    except TopicChanged:
        return True
    return False


def test_a_topic_that_was_not_made_is_named(kafka_settings: KafkaSettings) -> None:
    consumer = KafkaEventLog(kafka_settings.model_copy(update={"topic_prefix": "never-made."})).consumer(TOPIC)
    with pytest.raises(EventLogUnavailable, match=r"never-made\.attune\.feedback: `attune topics create` makes it"):
        consumer.partitions()
    consumer.close()


def test_a_closed_consumer_reads_nothing(kafka_settings: KafkaSettings) -> None:
    consumer = KafkaEventLog(kafka_settings).consumer(TOPIC)
    consumer.close()
    with pytest.raises(EventLogUnavailable, match="closed"):
        consumer.read(0, 0)
    assert not consumer.wait(EMPTY, 60.0)
