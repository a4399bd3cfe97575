"""Keeps the retention of the feedback topic: ingest is its writer, so expired records are dropped here."""

from __future__ import annotations

import asyncio
import logging
import time

from attune.domain.errors import EventLogUnavailable
from attune.platform.events.log import Producer

log = logging.getLogger(__name__)


async def trim_regularly(producer: Producer, interval_s: float) -> None:
    """Drops expired records every `interval_s`, on a thread of its own, between the appends; never ends."""
    while True:
        await asyncio.sleep(interval_s)
        try:
            await asyncio.to_thread(producer.trim, time.time())
        except EventLogUnavailable as error:
            log.warning("the event log cannot be trimmed now: %s", error.message)
