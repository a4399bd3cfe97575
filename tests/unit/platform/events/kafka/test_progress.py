"""Progress as a broker's tools see it, and what becomes of a report that fails."""

from __future__ import annotations

import logging

import pytest
from attune.platform.events.kafka.progress import PATIENCE, Progress
from attune.platform.events.log import Topic
from attune.platform.events.settings import KafkaSettings
from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import RetriableError
from support.eventually import eventually_sync


def reported(progress: Progress, offset: int, settings: KafkaSettings) -> dict[TopicPartition, int]:
    progress.report("readers", {0: offset, 1: 0})
    return offsets(settings)


def offsets(settings: KafkaSettings) -> dict[TopicPartition, int]:
    group = f"{settings.topic_prefix}readers"
    with KafkaAdminClient(bootstrap_servers=settings.bootstrap) as admin:
        try:
            return {where: found.offset for where, found in admin.list_group_offsets(group)[group].items()}
        except RetriableError:
            return {}


@pytest.mark.kafka
def test_the_group_is_where_the_reader_is(kafka_settings: KafkaSettings) -> None:
    topic = kafka_settings.topic_prefix + Topic.FEEDBACK
    progress = Progress(kafka_settings, topic)
    for offset in (3, 5):
        wanted = {TopicPartition(topic, 0): offset, TopicPartition(topic, 1): 0}
        # The first group of a broker has to wait for its coordinator: its report is made again.
        eventually_sync(lambda offset=offset, wanted=wanted: reported(progress, offset, kafka_settings) == wanted, 30)
    progress.close()


def test_reports_that_fail_again_and_again_are_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    progress = Progress(KafkaSettings(bootstrap="127.0.0.1:1", request_timeout_s=0.1), "attune.feedback")
    with caplog.at_level(logging.WARNING):
        for _ in range(PATIENCE - 1):
            progress.report("readers", {0: 3})
        assert "cannot be reported" not in caplog.text
        for _ in range(3):
            progress.report("readers", {0: 3})
        progress.report("readers", {})
    assert caplog.text.count("progress cannot be reported") == 1
    progress.close()
