"""The reading side of the join database: what the control service answers.

Pages read the last number first and then only rows up to it, so that a page never promises more than it has seen;
numbers become visible in the order of commits (`database.become_writer`).
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine, func, select

from attune.api.types.v1 import examples_pb2, feedback_pb2, prompts_pb2
from attune.domain.examples import Example
from attune.domain.feedback import FeedbackEvent, FeedbackState
from attune.domain.ids import uuid_bytes
from attune.domain.prompts import Prompt
from attune.feedback.join import tables
from attune.feedback.join.database import read_counters
from attune.feedback.join.rows import Removal, body_in


@dataclass(frozen=True)
class RemovalRow:
    """An example that no longer counts, in the order of removals."""

    id: int
    sequence: int
    reason: Removal


@dataclass(frozen=True)
class ExamplePage:
    """Live examples in order; pass `last_sequence` and `last_removal` on for the next page."""

    examples: tuple[examples_pb2.Example, ...]
    last_sequence: int
    end_sequence: int
    removals: tuple[RemovalRow, ...]
    last_removal: int


@dataclass(frozen=True)
class LivePrompt:
    """A prompt of the reservoir in the order of arrival."""

    sequence: int
    prompt: Prompt
    prompt_hash: str


@dataclass(frozen=True)
class EventStatus:
    """Where an event stands; `event` is None once erased."""

    state: FeedbackState
    reason: str
    event: FeedbackEvent | None
    accept_time: float
    example_sequence: int


class Reader:
    """Answers from committed rows, in short reads of its own; safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def examples(self, after_sequence: int, page_size: int, after_removal: int) -> ExamplePage:
        """The next live examples and the next removals, at most `page_size` of each."""
        table, removals = tables.examples, tables.removals
        with self._engine.connect() as connection:
            end = read_counters(connection)["examples"]
            query = select(table.c.sequence, table.c.content).where(
                table.c.sequence > after_sequence, table.c.sequence <= end
            )
            found = connection.execute(query.order_by(table.c.sequence).limit(page_size)).all()
            query = select(removals).where(removals.c.id > after_removal).order_by(removals.c.id)
            gone = [RemovalRow(r.id, r.sequence, Removal(r.reason)) for r in connection.execute(query.limit(page_size))]
        return ExamplePage(
            examples=tuple(_numbered(row.content, row.sequence) for row in found),
            last_sequence=found[-1].sequence if len(found) == page_size else max(end, after_sequence),
            end_sequence=end,
            removals=tuple(gone),
            last_removal=gone[-1].id if gone else after_removal,
        )

    def example(self, sequence: int) -> Example | None:
        """One live example."""
        table = tables.examples
        with self._engine.connect() as connection:
            content = connection.execute(select(table.c.content).where(table.c.sequence == sequence)).scalar()
        return None if content is None else Example.from_proto(_numbered(content, sequence))

    def prompts(self, after_sequence: int, page_size: int) -> list[LivePrompt]:
        """The next prompts of the reservoir."""
        table = tables.prompts
        query = select(table).where(table.c.sequence > after_sequence).order_by(table.c.sequence).limit(page_size)
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return [
            LivePrompt(
                row.sequence, Prompt.from_proto(prompts_pb2.Prompt.FromString(row.prompt)), row.prompt_hash.hex()
            )
            for row in rows
        ]

    def event(self, app_id: str, event_id: str) -> EventStatus | None:
        """An event by its id; None when the join has not read it or has forgotten it.

        A later event that used the same id for another body shows as LATER_BODY_REFUSED beside the state of the first.
        """
        table, conflicts, key = tables.feedback, tables.conflicts, uuid_bytes(event_id)
        with self._engine.connect() as connection:
            event = select(table, tables.examples.c.content)
            event = event.outerjoin_from(table, tables.examples, tables.IS_EXAMPLE_OF_EVENT)
            row = connection.execute(event.where(table.c.event_id == key, table.c.app_id == app_id)).first()
            query = select(func.count()).select_from(conflicts)
            refused = connection.execute(
                query.where(conflicts.c.event_id == key, conflicts.c.app_id == app_id)
            ).scalar_one()
        if row is None:
            return None
        body = row.body if row.content is None else body_in(row.content)
        return EventStatus(
            state=FeedbackState(row.state),
            reason=row.reason or ("LATER_BODY_REFUSED" if refused else ""),
            event=FeedbackEvent.from_proto(feedback_pb2.FeedbackEvent.FromString(body)) if body else None,
            accept_time=row.accept_us / 1_000_000,
            example_sequence=row.example_sequence,
        )

    def state_counts(self) -> dict[FeedbackState, int]:
        """Number of events in each state, refused second bodies among the conflicts."""
        table, conflicts = tables.feedback, tables.conflicts
        with self._engine.connect() as connection:
            query = select(table.c.state, func.count()).group_by(table.c.state)
            counts = {FeedbackState(row[0]): row[1] for row in connection.execute(query)}
            refused = connection.execute(select(func.count()).select_from(conflicts)).scalar_one()
        if refused:
            counts[FeedbackState.CONFLICT] = counts.get(FeedbackState.CONFLICT, 0) + refused
        return counts

    def pending(self) -> int:
        """Number of events that wait for a generation; answered from an index of them alone."""
        table = tables.feedback
        query = select(func.count()).select_from(table).where(table.c.state == tables.PENDING)
        with self._engine.connect() as connection:
            return connection.execute(query).scalar_one()

    def offsets(self) -> dict[tuple[str, int], int]:
        """Next offset of each topic and partition that is read."""
        with self._engine.connect() as connection:
            return {(r.topic, r.partition): r.next_offset for r in connection.execute(select(tables.offsets))}

    def end_sequence(self) -> int:
        """Greatest example sequence committed."""
        with self._engine.connect() as connection:
            return read_counters(connection)["examples"]


def _numbered(content: bytes, sequence: int) -> examples_pb2.Example:
    example = examples_pb2.Example.FromString(content)
    example.sequence = sequence
    return example
