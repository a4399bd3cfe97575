"""The writing side of the join database: batches with their offsets, sweeps, and erasure.

A batch is one transaction: 1. become the writer, 2. move the offsets from where this consumer believes them to be,
3. load what the entries touch, 4. match, 5. write, 6. hand the dead letters over, 7. commit. The offsets stand first:
a consumer that another has overtaken fails with OffsetConflict before it does anything. A crash before 7 leaves
nothing but dead letters, which the next attempt writes again; they carry their place in the log and count once by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Engine, Table, delete, insert, select, tuple_, update

from attune.domain.errors import OffsetConflict
from attune.domain.feedback import FeedbackState
from attune.feedback.join import tables
from attune.feedback.join.database import become_writer
from attune.feedback.join.erased import Erased
from attune.feedback.join.loading import load
from attune.feedback.join.matching import Changes, Matcher
from attune.feedback.join.rows import Entry, Limits, day_of, minute_of
from attune.feedback.join.writing import write

# What one sweep deletes of a table, and one transaction: the stream waits for no longer.
FORGOTTEN_ROWS, FORGOTTEN_AT_ONCE = 100_000, 5000


@dataclass(frozen=True)
class Advance:
    """A partition read from one offset up to another, exclusive."""

    topic: str
    partition: int
    old: int
    new: int


class Store:
    """Writes what the join concludes. One consumer uses it at a time; erasure may come from another thread."""

    def __init__(self, engine: Engine, limits: Limits, feedback_topic: str) -> None:
        self.engine = engine
        self.limits = limits
        self.feedback_topic = feedback_topic
        self.erased = Erased.of(engine)

    def offset(self, topic: str, partition: int, earliest: int) -> int:
        """Next offset to read; a partition seen for the first time starts at `earliest`."""
        table = tables.offsets
        here = (table.c.topic == topic) & (table.c.partition == partition)
        with self.engine.begin() as connection:
            become_writer(connection)
            found = connection.execute(select(table.c.next_offset).where(here)).scalar()
            if found is None:
                row = {"topic": topic, "partition": partition, "next_offset": earliest}
                connection.execute(insert(table), row)
                return earliest
        return found

    def commit(
        self,
        entries: Sequence[Entry],
        advances: Iterable[Advance],
        before_commit: Callable[[Changes], None] = lambda changes: None,
    ) -> Changes:
        """Plays the entries and moves the offsets in one transaction, or raises OffsetConflict and does neither."""
        with self.engine.begin() as connection:
            become_writer(connection)
            for advance in advances:
                _move_offset(connection, advance)
            matcher = Matcher(load(connection, entries, self.erased), self.limits, self.feedback_topic)
            for entry in entries:
                matcher.play(entry)
            write(connection, matcher)
            before_commit(matcher.changes)
        return matcher.changes

    def expire(self, generations_read_us: int) -> int:
        """Expires events whose generations can no longer come: all generations recorded up to that time are read.

        Returns their number.
        """
        table = tables.feedback
        too_old = table.c.log_us < generations_read_us - self.limits.pending_ttl_us
        with self.engine.begin() as connection:
            become_writer(connection)
            statement = (
                update(table)
                .where(table.c.state == tables.PENDING, too_old)
                .values(state=int(FeedbackState.EXPIRED), reason="NEVER_CAME")
            )
            return connection.execute(statement).rowcount

    def forget(self, feedback_read_us: int, feedback_retention_us: int) -> int:
        """Deletes what is too old for any unread event to name it: all feedback up to that time is read.

        Goes in short transactions, and not further than FORGOTTEN_ROWS a table; returns how many rows went.
        """
        last_generations = minute_of(feedback_read_us - self.limits.generation_retention_us)
        last_feedback = day_of(feedback_read_us - feedback_retention_us)
        settled = tables.feedback.c.state != int(FeedbackState.PENDING)
        return sum(
            self._forget(table, condition)
            for table, condition in (
                (tables.generations, tables.generations.c.minute < last_generations),
                (tables.mentions, tables.mentions.c.day < last_feedback),
                (tables.conflicts, tables.conflicts.c.day < last_feedback),
                (tables.feedback, (tables.feedback.c.day < last_feedback) & settled),
            )
        )

    def _forget(self, table: Table, condition: ColumnElement[bool]) -> int:
        key = table.primary_key.columns
        some_rows = select(*key).where(condition).limit(FORGOTTEN_AT_ONCE)
        statement = delete(table).where(tuple_(*key).in_(some_rows))
        gone = 0
        while gone < FORGOTTEN_ROWS:
            with self.engine.begin() as connection:
                become_writer(connection)
                some = connection.execute(statement).rowcount
            gone += some
            if some < FORGOTTEN_AT_ONCE:
                break
        return gone


def _move_offset(connection: Connection, advance: Advance) -> None:
    table = tables.offsets
    statement = (
        update(table)
        .where(
            table.c.topic == advance.topic,
            table.c.partition == advance.partition,
            table.c.next_offset == advance.old,
        )
        .values(next_offset=advance.new)
    )
    if connection.execute(statement).rowcount != 1:
        raise OffsetConflict(
            f"{advance.topic}/{advance.partition} is no longer at offset {advance.old}: another join has moved on"
        )
