"""A real Kafka broker for tests marked `kafka`, and fresh topics on it for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from attune.platform.events.kafka.topics import Layout, Topics
from attune.platform.events.log import EventLog, Record
from attune.platform.events.settings import KafkaSettings
from broker import Broker, BrokerFailed, fetch
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource
from support.eventually import eventually_sync
from support.parts import missing


def started(folder: Path, *, secured: bool = False) -> Broker:
    """A broker that serves; the test is skipped where there can be none."""
    try:
        fetch()
    except BrokerFailed as error:
        missing(f"no Kafka broker: {error}")
    broker = Broker(folder, secured=secured)
    broker.start()
    return broker


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One plain broker for the whole session. A test that stops it starts it again."""
    one = started(tmp_path_factory.mktemp("kafka"))
    yield one
    one.stop()


@pytest.fixture
def topic_prefix() -> str:
    """Names that no other test has."""
    return f"test-{uuid.uuid4()}."


@pytest.fixture
def kafka_settings(broker: Broker, topic_prefix: str) -> KafkaSettings:
    """Topics of this test alone, three partitions each, on the session's broker."""
    settings = KafkaSettings(bootstrap=broker.address, topic_prefix=topic_prefix, append_timeout_s=2)
    with Topics(settings, Layout()) as topics:
        topics.create()
    return settings


def set_topic(settings: KafkaSettings, topic: str, **values: str) -> None:
    """Changes settings of a topic, dots as underscores, and returns when the broker goes by them."""
    changes = {key.replace("_", "."): value for key, value in values.items()}
    with KafkaAdminClient(bootstrap_servers=settings.bootstrap) as admin:
        admin.alter_configs([ConfigResource("TOPIC", topic, changes)])

        def is_done() -> bool:
            found = admin.describe_configs([ConfigResource("TOPIC", topic)])["topic"][topic]
            return all(found.get(key, {}).get("value") == value for key, value in changes.items())

        eventually_sync(is_done, 30)


def read_all(log: EventLog, topic: str) -> list[Record]:
    """Every record of a topic, partition by partition."""
    consumer = log.consumer(topic)
    found: list[Record] = []
    for partition in consumer.partitions():
        offset = consumer.first_offset(partition)
        while records := consumer.read(partition, offset):
            found += records
            offset = records[-1].offset + 1
    consumer.close()
    return found
