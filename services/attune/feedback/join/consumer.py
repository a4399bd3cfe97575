"""The join's loop: the log in, rows and dead letters out.

A step: 1. read both topics, merged by log time; 2. decode, setting aside what cannot be read; 3. commit entries and
offsets in one transaction, dead letters durable before it; 4. move on and count. An event log that is away is waited
for: the step has left nothing behind and is taken again. A failing database stops the loop, and the process with it; a
bad record never does.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator

from attune.api.events.v1 import events_pb2
from attune.api.types.v1 import examples_pb2
from attune.domain.errors import EventLogUnavailable
from attune.domain.times import to_timestamp
from attune.feedback.join.freshness import Freshness
from attune.feedback.join.matching import Changes
from attune.feedback.join.metrics import JoinMetrics
from attune.feedback.join.reading import Reader
from attune.feedback.join.records import feedback_entries, generation_entries
from attune.feedback.join.rows import Entry, FeedbackEntry, SetAside
from attune.feedback.join.store import Store
from attune.feedback.join.tail import Batch, Tail
from attune.platform import tracing
from attune.platform.events.log import Producer, Topic

logger = logging.getLogger(__name__)

GROUP = "attune.join"
DECODERS = {Topic.GENERATIONS: generation_entries, Topic.FEEDBACK: feedback_entries}


def collect_rarely() -> None:
    """Sets the garbage collector of the process to the join's way of working: many thousand objects live for as long
    as their batch and hold no cycles, and to look at them again and again costs a tenth of the time."""
    gc.freeze()
    gc.set_threshold(200_000, 20, 20)


class JoinConsumer:
    """Drives `store` from `tail`. One thread; `sweep_interval_s` paces expiry and forgetting."""

    def __init__(
        self,
        store: Store,
        tail: Tail,
        dead_letters: Producer,
        metrics: JoinMetrics,
        *,
        feedback_retention_s: float,
        freshness: Freshness | None = None,
        sweep_interval_s: float = 5.0,
        idle_wait_s: float = 0.5,
        retry_wait_s: float = 1.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._tail, self._dead_letters, self._metrics = store, tail, dead_letters, metrics
        self._feedback_retention_us = round(feedback_retention_s * 1_000_000)
        self._sweep_interval_s, self._idle_wait_s, self._clock = sweep_interval_s, idle_wait_s, clock
        self._retry_wait_s = retry_wait_s
        self._freshness = freshness
        self._reader = Reader(store.engine)
        self._next_sweep = time.monotonic()

    def run(self, stop: threading.Event) -> None:
        """Reads until asked to stop. Whatever rises from here stops the process."""
        while not stop.is_set():
            try:
                self._turn(stop)
            except EventLogUnavailable as error:
                logger.warning("the join waits for the event log: %s", error.message)
                self._metrics.log_unavailable.inc()
                self._tell_lag()
                stop.wait(self._retry_wait_s)

    def _turn(self, stop: threading.Event) -> None:
        read = self.step()
        if time.monotonic() >= self._next_sweep:
            self.sweep()
            self._next_sweep = time.monotonic() + self._sweep_interval_s
        if not read:
            self._tail.wait(self._idle_wait_s, stop)

    def step(self) -> int:
        """Commits one batch and returns how many records it held; 0 when everything is read."""
        batch = self._tail.read()
        if batch.records:
            started_ns = time.time_ns()
            entries, unreadable = _decode(batch)
            changes = self._store.commit(
                entries, batch.advances, lambda changes: self._hand_over([*unreadable, *changes.set_aside])
            )
            self._tail.advance(batch)
            self._count(changes, unreadable)
            if tracing.is_on():
                _trace(started_ns, entries, changes)
        self._tell_lag()
        return len(batch.records)

    def _tell_lag(self) -> None:
        for topic in DECODERS:
            self._metrics.lag_records.labels(topic).set(self._tail.lag_records(topic))
            self._metrics.lag_seconds.labels(topic).set(self._tail.lag_s(topic))

    def sweep(self) -> None:
        """Expires what can no longer join, forgets old days, trims the dead letters, reports, follows freshness up."""
        expired = self._store.expire(self._tail.read_us(Topic.GENERATIONS))
        if expired:
            self._metrics.events.labels("expired").inc(expired)
            logger.info("%d events expired: their generations never came", expired)
        self._store.forget(self._tail.read_us(Topic.FEEDBACK), self._feedback_retention_us)
        self._dead_letters.trim(self._clock())
        self._tail.report(GROUP)
        self._metrics.pending.set(self._reader.pending())
        if self._freshness is not None:
            self._freshness.follow_up()

    def _count(self, changes: Changes, unreadable: list[SetAside]) -> None:
        for result, number in changes.results.items():
            self._metrics.events.labels(result).inc(number)
        for item in (*unreadable, *changes.set_aside):
            self._metrics.dead_letters.labels(item.reason).inc()
            where = (item.topic, item.place.partition, item.place.offset, item.place.index)
            logger.warning("set aside %s/%d at %d[%d]: %s", *where, item.reason)
        self._metrics.examples.inc(len(changes.examples))
        self._metrics.conflicts.labels("join").inc(len(changes.conflicts))
        for delay_us in changes.delays_us:
            self._metrics.delay.observe(delay_us / 1_000_000)

    def _hand_over(self, set_aside: list[SetAside]) -> None:
        if set_aside:
            now = to_timestamp(self._clock())
            letters = [
                events_pb2.DeadLetter(
                    topic=item.topic,
                    partition=item.place.partition,
                    offset=item.place.offset,
                    index=item.place.index,
                    reason=item.reason,
                    detail=item.detail,
                    value=item.value,
                    time=now,
                )
                for item in set_aside
            ]
            self._dead_letters.append([letter.SerializeToString() for letter in letters])


def _trace(started_ns: int, entries: list[Entry], changes: Changes) -> None:
    """A span of a batch that links to where its events and the generations of its examples were traced; none for a
    batch in which nothing was."""
    if links := tracing.links_to(_traceparents(entries, changes)):
        attributes = {"attune.entries": len(entries), "attune.examples": len(changes.examples)}
        tracing.completed("join", started_ns, links, attributes)


def _traceparents(entries: list[Entry], changes: Changes) -> Iterator[str]:
    """Of the examples first: they bring both together."""
    for row in changes.examples.values():
        example = examples_pb2.Example.FromString(row.content)
        yield from (example.feedback_traceparent, *example.generation_traceparents)
    for entry in entries:
        if isinstance(entry, FeedbackEntry):
            yield entry.traceparent


def _decode(batch: Batch) -> tuple[list[Entry], list[SetAside]]:
    entries: list[Entry] = []
    unreadable: list[SetAside] = []
    for topic, record in batch.records:
        good, bad = DECODERS[topic](record)
        entries += good
        unreadable += bad
    return entries, unreadable
