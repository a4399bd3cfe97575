"""The door to Kafka: a prefix keeps systems apart, and a broker that is away is only warned about."""

from __future__ import annotations

import logging

import pytest
from attune.platform.events.kafka.log import KafkaEventLog
from attune.platform.events.kafka.topics import Layout, Topics
from attune.platform.events.log import Topic
from attune.platform.events.settings import KafkaSettings
from support.kafka import read_all


@pytest.mark.kafka
def test_systems_with_other_prefixes_share_nothing(kafka_settings: KafkaSettings) -> None:
    other = kafka_settings.model_copy(update={"topic_prefix": f"other-{kafka_settings.topic_prefix}"})
    with Topics(other, Layout()) as topics:
        topics.create()
    producer = KafkaEventLog(kafka_settings).producer(Topic.FEEDBACK)
    producer.append([b"a"])
    producer.close()
    assert len(read_all(KafkaEventLog(kafka_settings), Topic.FEEDBACK)) == 1
    assert read_all(KafkaEventLog(other), Topic.FEEDBACK) == []


def test_a_broker_that_does_not_answer_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        KafkaEventLog(KafkaSettings(bootstrap="127.0.0.1:1", request_timeout_s=0.1)).check()
    assert "Kafka at 127.0.0.1:1" in caplog.text
