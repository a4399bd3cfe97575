"""Rebuilds the examples from the event log in a fresh database, and compares them with those of a live join.

An example is a function of one event and its generations, so that both must hold the same rows: event, content, times
and people. Numbers are not compared: the live join gave some before erasures that a replay never makes. What the log
no longer holds whole cannot be rebuilt: of a log that has been trimmed, examples count from the time on at which
everything that could bear on them is still there.

Nothing is written but the fresh database; dead letters of a replay are dropped, for the live join has written them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import merge
from itertools import groupby, repeat
from typing import Any

from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, Engine, Result, Select, func, select

from attune.domain.errors import ConfigurationInvalid
from attune.feedback.join import tables
from attune.feedback.join.consumer import JoinConsumer
from attune.feedback.join.erased import Erased, copy_from
from attune.feedback.join.erasure import erase_subject
from attune.feedback.join.metrics import JoinMetrics
from attune.feedback.join.rows import Limits
from attune.feedback.join.store import Store
from attune.feedback.join.tail import NEVER_US, Tail, time_us
from attune.platform.events.log import MAX_READ_BYTES, Consumer, EventLog, Position, Record, Topic

TOPICS = (Topic.GENERATIONS, Topic.FEEDBACK)
SHOWN, CHUNK = 20, 1000
EVENT_ID, ACCEPT_US = tables.examples.c.event_id, tables.examples.c.accept_us
EXAMPLES = select(
    EVENT_ID, tables.examples.c.app_id, ACCEPT_US, tables.examples.c.generation_us, tables.examples.c.content
)
PEOPLE = select(EVENT_ID, tables.examples.c.app_id, tables.example_subjects.c.subject_id).join_from(
    tables.examples, tables.example_subjects, tables.examples.c.sequence == tables.example_subjects.c.sequence
)
Offsets = Mapping[tuple[str, int], int]
Tell = Callable[[int, int], None]


class Kind(StrEnum):
    """How a row of the two databases can differ."""

    MISSING = "missing in the replay"
    EXTRA = "in the replay alone"
    ERASED = "of a person who was erased"


@dataclass(frozen=True)
class Difference:
    """A row that stands in one database and not, or not so, in the other; `what` names its table."""

    kind: Kind
    event_id: bytes
    app_id: str
    what: str


@dataclass
class Comparison:
    """What a replay showed. `out_of_log` live examples could not be rebuilt; the first differences are kept."""

    live: int = 0
    replayed: int = 0
    out_of_log: int = 0
    differences: int = 0
    shown: list[Difference] = field(default_factory=list)

    def note(self, difference: Difference) -> None:
        self.differences += 1
        if len(self.shown) < SHOWN:
            self.shown.append(difference)


class UpTo:
    """A consumer of a topic that ends at an offset for each partition, whatever comes behind it."""

    def __init__(self, consumer: Consumer, ends: Mapping[int, int]) -> None:
        self._consumer, self._ends = consumer, ends
        self.partitions, self.first_offset, self.close = consumer.partitions, consumer.first_offset, consumer.close

    def end_offset(self, partition: int) -> int:
        return max(self._ends.get(partition, 0), self._consumer.first_offset(partition))

    def read(
        self, partition: int, next_offset: int, max_records: int = 256, max_bytes: int = MAX_READ_BYTES
    ) -> list[Record]:
        most = min(max_records, self.end_offset(partition) - next_offset)
        return self._consumer.read(partition, next_offset, most, max_bytes) if most > 0 else []

    def wait(self, next_offsets: Mapping[int, int], timeout_s: float) -> bool:
        return any(self.end_offset(partition) > offset for partition, offset in next_offsets.items())

    def report(self, group: str, next_offsets: Mapping[int, int]) -> None:
        """A replay is not the reader that people watch."""


class Dropped:
    """A producer that keeps nothing."""

    def append(self, values: Sequence[bytes]) -> list[Position]:
        return [Position(0, 0)] * len(values)

    def trim(self, now_s: float) -> int:
        return 0

    def close(self) -> None:
        pass


class Replay:
    """One replay of `log` into `fresh`, beside the database `live` of a join with these limits."""

    def __init__(
        self, log: EventLog, live: Engine, fresh: Engine, limits: Limits, feedback_retention_s: float, tell: Tell
    ) -> None:
        self._log, self._live, self._fresh, self._tell = log, live, fresh, tell
        self._limits, self._feedback_retention_s = limits, feedback_retention_s

    def run(self) -> Comparison:
        """Reads as far as the live join has, and compares. ConfigurationInvalid if the fresh database is not.

        The live join may go on: 1. most of the log is read, 2. a snapshot of the live database is taken, 3. the rest
        up to the offsets of the snapshot is read, and its erasures are followed, 4. rows are compared with it.
        """
        with self._fresh.connect() as connection:
            if _offsets(connection):
                raise ConfigurationInvalid("a replay goes into a fresh database; this one has read a log already")
        copy_from(self._live, self._fresh)
        with self._live.connect() as connection:
            offsets = _offsets(connection)
        self._read(offsets)
        with _snapshot(self._live) as live:
            self._read(_offsets(live))
            self._follow_erasures(live)
            with self._fresh.connect() as fresh:
                return compare(live, fresh, Erased.of(self._fresh), self._whole_from_us())

    def _follow_erasures(self, live: Connection) -> None:
        """Erases who was erased in the live database since the replay began; who was before must not have come back."""
        erased, people = Erased.of(self._fresh), tables.example_subjects
        gone: set[tuple[str, str]] = set()
        with self._fresh.connect() as fresh:
            for rows in _stream(fresh, select(people.c.app_id, people.c.subject_id).distinct()).partitions(CHUNK):
                some = [(row.app_id, row.subject_id) for row in rows]
                gone |= erased.among(live, some) - erased.among(fresh, some)
        for app_id, subject_id in sorted(gone):
            erase_subject(self._fresh, erased, self._limits, app_id, subject_id, erase_us=0)

    def _read(self, ends: Offsets) -> None:
        """Plays the log up to the offsets."""
        store = Store(self._fresh, self._limits, Topic.FEEDBACK)
        tail = Tail({topic: self._consumer(topic, ends) for topic in TOPICS}, store.offset)
        metrics = JoinMetrics(CollectorRegistry())
        consumer = JoinConsumer(store, tail, Dropped(), metrics, feedback_retention_s=self._feedback_retention_s)
        total = sum(ends.values())
        try:
            while consumer.step():
                consumer.sweep()
                self._tell(total - sum(map(tail.lag_records, TOPICS)), total)
        finally:
            tail.close()

    def _consumer(self, topic: Topic, ends: Offsets) -> UpTo:
        return UpTo(self._log.consumer(topic), {p: end for (name, p), end in ends.items() if name == topic})

    def _whole_from_us(self) -> int:
        """Log time from which on the log holds all that bears on an example; 0 for a log that is whole."""
        bears_us = {
            Topic.GENERATIONS: self._limits.generation_retention_us,
            Topic.FEEDBACK: round(self._feedback_retention_s * 1_000_000),
        }
        return max(_trimmed_to_us(self._log, topic, bears_us[topic]) for topic in TOPICS)


def compare(live: Connection, fresh: Connection, erased: Erased, from_us: int) -> Comparison:
    """Rows of both databases whose events were accepted at `from_us` or later, log time; both are read in streams."""
    found = Comparison(_count(live, from_us), _count(fresh, from_us), _count(live, 0) - _count(live, from_us))
    for what, query in (("example", EXAMPLES), ("people of the example", PEOPLE)):
        query = query.where(from_us <= ACCEPT_US).order_by(EVENT_ID)
        for kind, row in _differences(_stream(live, query), _stream(fresh, query)):
            found.note(Difference(kind, row[0], row[1], what))
    for where, connection in (("live database", live), ("replay", fresh)):
        for rows in _stream(connection, PEOPLE).partitions(CHUNK):
            gone = erased.among(live, {(row.app_id, row.subject_id) for row in rows})
            for row in rows:
                if (row.app_id, row.subject_id) in gone:
                    found.note(Difference(Kind.ERASED, row.event_id, row.app_id, f"example in the {where}"))
    return found


def _differences(live: Iterable[Any], fresh: Iterable[Any]) -> Iterator[tuple[Kind, tuple[Any, ...]]]:
    """Rows that stand on one side alone; both come in the order of their first column."""
    sides = [zip(rows, repeat(kind)) for rows, kind in ((live, Kind.MISSING), (fresh, Kind.EXTRA))]
    for _, group in groupby(merge(*sides, key=_first_column), key=_first_column):
        rows: dict[Kind, set[tuple[Any, ...]]] = {Kind.MISSING: set(), Kind.EXTRA: set()}
        for row, kind in group:
            rows[kind].add(tuple(row))
        for kind, other in ((Kind.MISSING, Kind.EXTRA), (Kind.EXTRA, Kind.MISSING)):
            yield from ((kind, row) for row in rows[kind] - rows[other])


def _first_column(item: tuple[Any, Kind]) -> Any:
    return item[0][0]


def _stream(connection: Connection, query: Select[Any]) -> Result[Any]:
    return connection.execution_options(stream_results=True).execute(query)


def _count(connection: Connection, from_us: int) -> int:
    query = select(func.count()).select_from(tables.examples).where(from_us <= ACCEPT_US)
    return connection.execute(query).scalar_one()


def _offsets(connection: Connection) -> dict[tuple[str, int], int]:
    return {(row.topic, row.partition): row.next_offset for row in connection.execute(select(tables.offsets))}


@contextmanager
def _snapshot(engine: Engine) -> Iterator[Connection]:
    """A connection that sees the database as it is now, whatever is committed meanwhile."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN")
        else:
            connection.execution_options(isolation_level="REPEATABLE READ")
        _offsets(connection)  # a snapshot is taken by the first read
        yield connection


def _trimmed_to_us(log: EventLog, topic: Topic, bears_us: int) -> int:
    """When what the topic has dropped bears on nothing any more; 0 if it has dropped nothing."""
    consumer = log.consumer(topic)
    try:
        ends = [0]
        for partition in consumer.partitions():
            if first := consumer.first_offset(partition):
                records = consumer.read(partition, first, 1)
                ends.append(time_us(records[0]) + bears_us if records else NEVER_US)
        return max(ends)
    finally:
        consumer.close()
