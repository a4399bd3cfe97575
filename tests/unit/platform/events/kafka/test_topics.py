"""Topics on a real broker: made as the log needs them, and every difference found."""

from __future__ import annotations

import pytest
from attune.domain.errors import EventLogUnavailable
from attune.platform.events.kafka.topics import SEGMENT_MS, Difference, Layout, Topics
from attune.platform.events.log import RETENTION_S, Topic
from attune.platform.events.settings import KafkaSettings
from broker import Broker
from support.kafka import set_topic

pytestmark = pytest.mark.kafka


@pytest.fixture
def settings(broker: Broker, topic_prefix: str) -> KafkaSettings:
    return KafkaSettings(bootstrap=broker.address, topic_prefix=topic_prefix)


def test_topics_are_made_once_and_then_as_they_should_be(settings: KafkaSettings) -> None:
    names = [settings.topic_prefix + topic for topic in Topic]
    with Topics(settings, Layout(partitions=2)) as topics:
        assert topics.check() == [Difference(name, "topic", "present", "") for name in names]
        assert sorted(topics.create()) == sorted(names)
        assert topics.check() == []
        assert topics.create() == []
    with Topics(settings, Layout(partitions=1)) as topics:
        assert topics.check() == []  # more partitions are no fault


def test_what_differs_is_said(settings: KafkaSettings) -> None:
    name = settings.topic_prefix + Topic.FEEDBACK
    with Topics(settings, Layout(partitions=2)) as topics:
        topics.create()
    set_topic(settings, name, retention_ms="3600000", message_timestamp_type="CreateTime")
    with Topics(settings, Layout(partitions=3, copies=2, fsync=True)) as topics:
        found = [(d.setting, d.wanted, d.found) for d in topics.check() if d.topic == name]
    assert found == [
        ("partitions", "3", "2"),
        ("replication factor", "2", "1"),
        ("retention.ms", str(round(RETENTION_S[Topic.FEEDBACK] * 1000) - SEGMENT_MS), "3600000"),
        ("message.timestamp.type", "LogAppendTime", "CreateTime"),
        ("flush.messages", "1", "9223372036854775807"),
    ]


def test_more_copies_than_brokers_are_refused_with_the_brokers_reason(settings: KafkaSettings) -> None:
    with Topics(settings, Layout(copies=3)) as topics, pytest.raises(EventLogUnavailable, match="only 1 broker"):
        topics.create()


def test_where_nothing_listens() -> None:
    with pytest.raises(EventLogUnavailable, match="ECONNREFUSED"):
        Topics(KafkaSettings(bootstrap="127.0.0.1:1", request_timeout_s=1.0), Layout())
