"""Clients send until every event is done with, and conversations reach the log as they were drawn."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from attune.api.events.v1 import events_pb2
from attune.client import FeedbackEvent
from attune.domain.ids import uuid_bytes
from attune.platform.events.log import Topic
from attune.platform.events.memory import MemoryEventLog
from chaos.ledger import Answer, Ledger, Outcome
from chaos.senders import Client, Talk
from chaos.traffic import Traffic
from feedback_samples import an_event
from support.eventually import eventually
from support.kafka import read_all


class Flaky:
    """A door that takes every other event it is shown, and remembers those it took."""

    name, at_most = "flaky", 10

    def __init__(self) -> None:
        self.taken: list[FeedbackEvent] = []
        self._shown = 0

    async def send(self, events: Sequence[FeedbackEvent]) -> list[Answer]:
        return [self._judge(event) for event in events]

    def _judge(self, event: FeedbackEvent) -> Answer:
        self._shown += 1
        if self._shown % 2:
            return Answer(Outcome.AGAIN)
        self.taken.append(event)
        return Answer(Outcome.TAKEN)


def a_ledger() -> Ledger:
    return Ledger(lambda event: None, lambda event: None)


async def test_what_was_not_taken_is_sent_again_until_it_is() -> None:
    door, ledger = Flaky(), a_ledger()
    client = Client(door, 1.0, ledger, random.Random(1))
    for number in range(25):
        client.put(an_event(number))
    running = asyncio.create_task(client.run())
    await eventually(lambda: client.open == 0)
    running.cancel()
    assert sorted(event.event_id for event in door.taken) == [an_event(number).event_id for number in range(25)]
    assert ledger.acknowledged_ids == 25
    assert ledger.sent_again > 0


async def test_every_event_is_sent_and_all_generations_but_the_unanswerable_are_written() -> None:
    log, door, ledger, dice = MemoryEventLog(), Flaky(), a_ledger(), random.Random(3)
    client = Client(door, 1.0, ledger, dice)
    talk = Talk(Traffic(dice), log.producer(Topic.GENERATIONS), [client], dice, 400, latest_s=0.1)
    running = asyncio.create_task(client.run())
    await talk.run(0.2)
    running.cancel()
    assert talk.begun == len(door.taken) >= 400
    written = {
        generation.id
        for record in read_all(log, Topic.GENERATIONS)
        for generation in events_pb2.GenerationBatch.FromString(record.value).generations
    }
    unanswered = {uuid_bytes(event.event_id) for event in door.taken if not written.issuperset(event.generation_ids)}
    assert unanswered == talk.never != set()
