"""A log in memory, and a gated way into it."""

from __future__ import annotations

import pytest
from attune.platform.events.log import Topic
from attune.platform.events.memory import MemoryEventLog
from feedback_samples import NOON_S
from unit.feedback.ingest.gated import GatedProducer


@pytest.fixture
def log() -> MemoryEventLog:
    return MemoryEventLog(clock=lambda: NOON_S)


@pytest.fixture
def gated(log: MemoryEventLog) -> GatedProducer:
    return GatedProducer(log.producer(Topic.FEEDBACK))
