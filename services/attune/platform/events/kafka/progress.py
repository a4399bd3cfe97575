"""A reader's progress as the offsets of a consumer group, for the tools of those who operate Kafka.

Dashboards and autoscalers read a group's lag from the broker. The offsets here are a copy of those in the reader's
database, written after them; nothing of Attune reads them back, and reports that fail again and again are only warned
about (a group's first ones do, until the broker has found it a coordinator).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import NoError
from kafka.structs import OffsetAndMetadata

from attune.domain.errors import AttuneError, EventLogUnavailable
from attune.platform.events.kafka.connection import connect, errors_of
from attune.platform.events.settings import KafkaSettings

PATIENCE = 4

logger = logging.getLogger(__name__)


class Progress:
    """Reports the progress in one topic. Connects at the first report."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings, self._topic = settings, topic
        self._admin: KafkaAdminClient | None = None
        self._last: dict[int, int] = {}
        self._failures = 0

    def report(self, group: str, next_offsets: Mapping[int, int]) -> None:
        """Writes the offsets that have changed since the last report."""
        changed = {p: offset for p, offset in next_offsets.items() if self._last.get(p) != offset}
        if not changed:
            return
        try:
            self._write(self._settings.topic_prefix + group, changed)
        except AttuneError as error:
            self._failures += 1
            if self._failures == PATIENCE:
                logger.warning("progress cannot be reported: %s", error.message)
            self.close()
        else:
            self._failures = 0
            self._last.update(changed)

    def _write(self, group: str, offsets: Mapping[int, int]) -> None:
        with errors_of(f"{self._topic} of group {group}"):
            if self._admin is None:
                timeout_ms = round(self._settings.request_timeout_s * 1000)
                timeout_s = self._settings.request_timeout_s
                self._admin = connect(KafkaAdminClient, self._settings, timeout_s, request_timeout_ms=timeout_ms)
            named = {TopicPartition(self._topic, p): OffsetAndMetadata(offset, "", -1) for p, offset in offsets.items()}
            refused = {
                error for error in self._admin.alter_group_offsets(group, named).values() if error is not NoError
            }
        if refused:
            raise EventLogUnavailable(f"group {group}: {', '.join(sorted(error.__name__ for error in refused))}")

    def close(self) -> None:
        if self._admin is not None:
            self._admin.close()
            self._admin = None
