"""Clients at their doors: each takes its share of the events and sends it until every one is done with.

Conversations begin at an even pace. When the log is away their generations wait, and with them the people who would
speak about them; what was missed comes in a rush afterwards.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Sequence

from attune.api.events.v1 import events_pb2
from attune.api.types.v1 import generations_pb2
from attune.client import FeedbackEvent
from attune.domain.errors import EventLogUnavailable
from attune.platform.events.log import Producer
from chaos.doors import Door
from chaos.ledger import Ledger, Said
from chaos.traffic import Conversation, Recorded, Traffic
from support.eventually import eventually

TICK_S, PAUSE_S, GATHERING_S = 0.1, 0.5, 0.2
AT_ONCE = 500
PATIENCE_S = 600.0


class Client:
    """A door and the queue of what is to be sent through it; several calls of one event run side by side."""

    def __init__(self, door: Door, share: float, ledger: Ledger, dice: random.Random) -> None:
        self.share = share
        self._door, self._ledger, self._dice = door, ledger, dice
        self._queue: asyncio.Queue[FeedbackEvent] = asyncio.Queue()
        self.open = 0
        """Events that are not done with."""

    def put(self, event: FeedbackEvent) -> None:
        self._ledger.sent(event)
        self.open += 1
        self._queue.put_nowait(event)

    async def run(self) -> None:
        """Sends until it is cancelled."""
        while True:
            events = [await self._queue.get()]
            if self._door.at_most > 1:
                await asyncio.sleep(GATHERING_S)
            while len(events) < self._door.at_most and not self._queue.empty():
                events.append(self._queue.get_nowait())
            await self._until_done(events)

    async def _until_done(self, events: Sequence[FeedbackEvent]) -> None:
        while events:
            answers = await self._door.send(events)
            judged = [
                (event, self._ledger.answered(self._door.name, event, answer))
                for event, answer in zip(events, answers, strict=True)
            ]
            events = [event for event, is_done in judged if not is_done]
            self.open -= len(judged) - len(events)
            if events:
                await asyncio.sleep(self._dice.random() * PAUSE_S)


class Talk:
    """Writes generations and hands their events, `count` or a few more, to the clients.

    Those that come after their feedback come up to `latest_s` later. `never` collects the ids of events whose
    generation is never written.
    """

    def __init__(
        self,
        traffic: Traffic,
        generations: Producer,
        clients: Sequence[Client],
        dice: random.Random,
        count: int,
        *,
        latest_s: float = 15.0,
    ) -> None:
        self._traffic, self._generations, self._clients, self._dice = traffic, generations, clients, dice
        self._count, self._latest_s = count, latest_s
        self._later: deque[tuple[float, generations_pb2.Generation]] = deque()
        self.begun = 0
        self.never: set[bytes] = set()

    def hand_out(self, event: FeedbackEvent) -> None:
        """Gives an event to a client, drawn by their shares."""
        (client,) = self._dice.choices(self._clients, [client.share for client in self._clients])
        client.put(event)

    async def run(self, seconds: float) -> None:
        """Begins `count` events in about that time, then waits until every client is done."""
        started = time.monotonic()
        while self.begun < self._count or self._later:
            due = self._count * min(1.0, (time.monotonic() - started) / seconds)
            conversations = self._conversations(min(due - self.begun, AT_ONCE))
            await self._write([c.generation for c in conversations if c.recorded is Recorded.FIRST])
            for event in [event for conversation in conversations for event in conversation.events]:
                self.hand_out(event)
            await self._write_later()
            await asyncio.sleep(TICK_S)
        await eventually(lambda: not any(client.open for client in self._clients), PATIENCE_S)

    def _conversations(self, events: float) -> list[Conversation]:
        found: list[Conversation] = []
        end = self.begun + events
        while self.begun < end:
            found.append(conversation := self._traffic.conversation())
            self.begun += len(conversation.events)
            if conversation.recorded is Recorded.LATER:
                due = time.monotonic() + self._dice.random() * self._latest_s
                self._later.append((due, conversation.generation))
            elif conversation.recorded is Recorded.NEVER:
                self.never.update(Said.of(event).event_id for event in conversation.events)
        return found

    async def _write_later(self) -> None:
        now = time.monotonic()
        due = [generation for at, generation in self._later if at <= now]
        self._later = deque((at, generation) for at, generation in self._later if at > now)
        await self._write(due)

    async def _write(self, generations: Sequence[generations_pb2.Generation]) -> None:
        """Returns when the log has them; one whose answer was lost stands there twice."""
        if not generations:
            return
        record = events_pb2.GenerationBatch(generations=generations).SerializeToString()
        while True:
            try:
                await asyncio.to_thread(self._generations.append, [record])
                return
            except EventLogUnavailable:
                await asyncio.sleep(PAUSE_S)
