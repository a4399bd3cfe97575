"""The event log on Apache Kafka. A topic is made by `attune topics create`, never by writing to it."""

from __future__ import annotations

import logging

from kafka import KafkaAdminClient

from attune.domain.errors import EventLogUnavailable
from attune.platform.events.kafka.connection import connect
from attune.platform.events.kafka.consumer import KafkaTopicConsumer
from attune.platform.events.kafka.producer import KafkaTopicProducer
from attune.platform.events.settings import KafkaSettings

logger = logging.getLogger(__name__)


class KafkaEventLog:
    """The topics of one cluster whose names begin with the prefix of the settings."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    def check(self) -> None:
        """Connects once: ConfigurationInvalid if the broker refuses us, a warning if it does not answer now."""
        try:
            connect(KafkaAdminClient, self._settings, self._settings.request_timeout_s).close()
        except EventLogUnavailable as error:
            logger.warning("%s; it is tried again when it is needed", error.message)

    def producer(self, topic: str) -> KafkaTopicProducer:
        return KafkaTopicProducer(self._settings, self._settings.topic_prefix + topic)

    def consumer(self, topic: str) -> KafkaTopicConsumer:
        return KafkaTopicConsumer(self._settings, self._settings.topic_prefix + topic)
