"""Reads what the accounts need: the topic whole, the join's tables, and its examples as a trainer reads them."""

from __future__ import annotations

import asyncio

from attune.api.events.v1 import events_pb2
from attune.client.control import AsyncFeedbackControlClient
from attune.domain.errors import AttuneError
from attune.domain.feedback import FeedbackEvent
from attune.domain.ids import uuid_bytes
from attune.feedback.join import tables
from attune.platform.events.log import Consumer, EventLog, Topic
from chaos.accounts import Counted, EventRow
from chaos.ledger import Said
from sqlalchemy import Engine, func, select
from support.kafka import read_all

PAGE, IDLE_S = 1000, 0.5


def on_topic(log: EventLog) -> list[Said]:
    """Every event of the feedback topic, as often as it stands there."""
    return [
        Said.of(FeedbackEvent.from_proto(accepted.event))
        for record in read_all(log, Topic.FEEDBACK)
        for accepted in events_pb2.FeedbackBatch.FromString(record.value).events
    ]


def event_rows(engine: Engine) -> list[EventRow]:
    columns = tables.feedback.c
    wanted = select(columns.event_id, columns.body_hash, columns.opinion_key, columns.state, columns.example_sequence)
    with engine.connect() as connection:
        return [EventRow(Said(*row[:2]), *row[2:]) for row in connection.execute(wanted)]


def conflicts(engine: Engine) -> list[Said]:
    wanted = select(tables.conflicts.c.event_id, tables.conflicts.c.body_hash)
    with engine.connect() as connection:
        return [Said(*row) for row in connection.execute(wanted)]


def examples(engine: Engine) -> list[Counted]:
    wanted = select(tables.examples.c.sequence, tables.examples.c.event_id)
    with engine.connect() as connection:
        return [Counted(*row) for row in connection.execute(wanted)]


def unread(engine: Engine, consumers: dict[Topic, Consumer]) -> int:
    """Records of the log that the join has not committed."""
    stored = tables.offsets.c
    with engine.connect() as connection:
        rows = connection.execute(select(stored.topic, stored.partition, stored.next_offset))
        offsets = {(row.topic, row.partition): row.next_offset for row in rows}
    return sum(
        consumer.end_offset(partition) - offsets.get((topic, partition), consumer.first_offset(partition))
        for topic, consumer in consumers.items()
        for partition in consumer.partitions()
    )


def last_numbers(engine: Engine) -> tuple[int, int]:
    """The newest example and the newest removal that there are."""
    with engine.connect() as connection:
        example = connection.execute(select(func.max(tables.examples.c.sequence))).scalar()
        removal = connection.execute(select(func.max(tables.removals.c.id))).scalar()
    return example or 0, removal or 0


class Trainer:
    """Reads examples as they come, from the number of the last one it has, over every death of the join."""

    def __init__(self, client: AsyncFeedbackControlClient) -> None:
        self._client = client
        self.last_example = self.last_removal = 0
        self.read: list[Counted] = []
        self.taken_back: list[int] = []

    async def run(self) -> None:
        """Reads until it is cancelled."""
        while True:
            try:
                found = await self._read()
            except AttuneError:
                found = 0
            if not found:
                await asyncio.sleep(IDLE_S)

    async def _read(self) -> int:
        page = await self._client.read_examples(self.last_example, page_size=PAGE, after_removal=self.last_removal)
        self.last_example, self.last_removal = page.last_sequence, page.last_removal
        self.read += [Counted(example.sequence, uuid_bytes(example.event.event_id)) for example in page.examples]
        self.taken_back += [removal.sequence for removal in page.removals]
        return len(page.examples) + len(page.removals)
