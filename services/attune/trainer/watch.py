"""What happens in training, told to whoever watches: a small fan-out with a bounded queue a watcher.

A watcher that does not keep up loses the oldest happenings, which are counted; training never waits for one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from attune.api.trainer.v1 import trainer_pb2
from attune.domain.times import to_timestamp

QUEUE_LENGTH = 256


class Event(IntEnum):
    """Kinds of happenings; values as on the wire."""

    REWARD_PROMOTED = 1
    REWARD_REJECTED = 2
    POLICY_PROMOTED = 3
    POLICY_REJECTED = 4
    STOPPED = 5
    ALIAS_MOVED = 6


@dataclass(frozen=True)
class Happening:
    """Something that happened at `time` (seconds), at a training step."""

    event: Event
    step: int
    revision: str = ""
    reason: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    time: float = field(default_factory=time.time)

    def to_proto(self) -> trainer_pb2.WatchResponse:
        return trainer_pb2.WatchResponse(
            time=to_timestamp(self.time),
            step=self.step,
            event=int(self.event),  # type: ignore[arg-type]
            revision=self.revision,
            metrics=dict(self.metrics),
            reason=self.reason,
        )


class Watchers:
    """Everyone who watches now. `on_lost` hears of each happening that a slow one did not get."""

    def __init__(self, on_lost: Callable[[], object]) -> None:
        self._queues: set[asyncio.Queue[Happening]] = set()
        self._on_lost = on_lost

    def tell(self, happening: Happening) -> None:
        """Hands it to all; drops the oldest of a full queue."""
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
                self._on_lost()
            queue.put_nowait(happening)

    async def watch(self) -> AsyncGenerator[Happening, None]:
        """Happenings from now on, until closed."""
        queue: asyncio.Queue[Happening] = asyncio.Queue(QUEUE_LENGTH)
        self._queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)
