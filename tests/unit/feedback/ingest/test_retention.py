"""Expired records of the topic are dropped while ingest runs."""

from __future__ import annotations

import asyncio
import logging

import pytest
from attune.domain.errors import EventLogUnavailable
from attune.feedback.ingest.retention import trim_regularly
from attune.platform.events.log import RETENTION_S, Topic
from attune.platform.events.memory import MemoryEventLog
from attune.platform.lifecycle import cancelled
from support.eventually import eventually
from unit.feedback.ingest.gated import GatedProducer


async def test_what_has_expired_is_dropped_again_and_again() -> None:
    log = MemoryEventLog(clock=lambda: 1_000_000.0 - RETENTION_S[Topic.FEEDBACK])
    producer, consumer = log.producer(Topic.FEEDBACK), log.consumer(Topic.FEEDBACK)
    trimming = asyncio.create_task(trim_regularly(producer, 0.001))
    for number in range(2):
        producer.append([b"old"])
        await eventually(lambda number=number: consumer.first_offset(0) == number + 1)
    await cancelled(trimming)


class BusyAtFirst(GatedProducer):
    """Cannot be trimmed the first time."""

    trims = 0

    def trim(self, now_s: float) -> int:
        self.trims += 1
        if self.trims == 1:
            raise EventLogUnavailable("the file is busy")
        return self.inner.trim(now_s)


async def test_a_log_that_is_busy_is_trimmed_the_next_time(
    log: MemoryEventLog, caplog: pytest.LogCaptureFixture
) -> None:
    producer = BusyAtFirst(log.producer(Topic.FEEDBACK))
    with caplog.at_level(logging.WARNING):
        trimming = asyncio.create_task(trim_regularly(producer, 0.001))
        await eventually(lambda: producer.trims > 1)
    await cancelled(trimming)
    assert "the file is busy" in caplog.text
