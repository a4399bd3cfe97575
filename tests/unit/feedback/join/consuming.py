"""A log that passes time, programs that write to it, and a consumer over it: for tests of the join's loop."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from itertools import count

from attune.api.events.v1 import events_pb2
from attune.domain.feedback import AcceptedFeedback, Rating
from attune.feedback.join.consumer import JoinConsumer
from attune.feedback.join.metrics import JoinMetrics
from attune.feedback.join.store import Store
from attune.feedback.join.tail import Tail
from attune.platform.events.log import Topic
from attune.platform.events.memory import MemoryEventLog
from attune.platform.events.sqlite import SqliteEventLog
from feedback_samples import FEEDBACK, LIMITS, NOON_S, a_generation, a_ranking, an_event, completion
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

Log = MemoryEventLog | SqliteEventLog


class Clock:
    """Log time: a millisecond passes at every look."""

    def __init__(self) -> None:
        self.now = NOON_S

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


class Feed:
    """Writes to the topics as policy and ingest do, each entry in a trace of its own, a repeated one too."""

    def __init__(self, log: Log) -> None:
        self._traces = count(1)
        self.generations, self.feedback = log.producer(Topic.GENERATIONS), log.producer(Topic.FEEDBACK)

    def generation(self, *args: object, **kwargs: object) -> None:
        generation = replace(a_generation(*args, **kwargs), traceparent=self._traceparent())  # type: ignore[arg-type]
        batch = events_pb2.GenerationBatch(generations=[generation.to_proto()])
        self.generations.append([batch.SerializeToString()])

    def event(self, *args: object, **kwargs: object) -> None:
        accepted = AcceptedFeedback(an_event(*args, **kwargs), NOON_S, self._traceparent())  # type: ignore[arg-type]
        self.feedback.append([events_pb2.FeedbackBatch(events=[accepted.to_proto()]).SerializeToString()])

    def _traceparent(self) -> str:
        number = next(self._traces)
        return f"00-{number:032x}-{number:016x}-01"

    def anything(self, dice: random.Random, entries: int) -> None:
        """Generations and events that join, wait, repeat, contradict and change their mind."""
        for _ in range(entries):
            if dice.random() < 0.4:
                self.generation(dice.randint(1, 30), prompt=f"question {dice.randint(1, 9)}")
            else:
                first, second = (completion(dice.randint(1, 33), dice.randint(0, 1)) for _ in range(2))
                said = a_ranking(first, second) if first != second and dice.random() < 0.3 else Rating(first, 1.0)
                self.event(dice.randint(1, 200), said, subject_id=dice.choice(["ann", "bob", "eve"]))


def a_consumer(
    log: Log,
    engine: Engine,
    clock: Clock | None = None,
    batch_records: int = 64,
    registry: CollectorRegistry | None = None,
    retry_wait_s: float = 1.0,
) -> JoinConsumer:
    store = Store(engine, LIMITS, FEEDBACK)
    consumers = {topic: log.consumer(topic) for topic in (Topic.GENERATIONS, Topic.FEEDBACK)}
    tail = Tail(consumers, store.offset, batch_records=batch_records, clock=clock or time.time)
    letters = MemoryEventLog().producer(Topic.DEAD_LETTERS) if clock is None else log.producer(Topic.DEAD_LETTERS)
    return JoinConsumer(
        store,
        tail,
        letters,
        JoinMetrics(registry or CollectorRegistry()),
        feedback_retention_s=86400 * 10,
        retry_wait_s=retry_wait_s,
        clock=clock or time.time,
    )


def drain(consumer: JoinConsumer) -> None:
    while consumer.step():
        pass
