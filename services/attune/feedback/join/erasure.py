"""Erases a person from the join database: their events, generations, prompts, and every example that holds their words.

What stays is the salted hash that keeps them out of replays, and stubs (ids without content) so that a retry, a late
opinion or an answer about an erased conversation meets the same verdict as in a replay. Weights are not unlearned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Engine, Select, bindparam, delete, func, select, update

from attune.domain.feedback import FeedbackState
from attune.feedback.join import tables
from attune.feedback.join.database import become_writer
from attune.feedback.join.erased import Erased
from attune.feedback.join.loading import events_naming, feedback_rows
from attune.feedback.join.rows import FeedbackRow, Key, Limits, Removal, is_in_reach
from attune.feedback.join.statements import matching_rows
from attune.feedback.join.writing import forget_mentions, remove_examples, update_feedback

EXAMPLE_EVENTS = select(tables.examples.c.event_id)

# States that an event leaves when a generation it names is erased; see the order of rules in `matching`.
REVOCABLE = (FeedbackState.PENDING, FeedbackState.CONFLICT)


@dataclass(frozen=True)
class ErasureReport:
    """What was deleted; `example_sequences` in order."""

    events: int
    generations: int
    example_sequences: tuple[int, ...]


def erase_subject(
    engine: Engine, erased: Erased, limits: Limits, app_id: str, subject_id: str, erase_us: int
) -> ErasureReport:
    """Deletes a person's rows in one transaction. A second call finds nothing left and reports zeros."""
    with engine.begin() as connection:
        become_writer(connection)
        erased.add(connection, app_id, subject_id, erase_us)
        sequences = _sequences(connection, app_id, subject_id)
        examples = _events_of_examples(connection, app_id, sequences)
        remove_examples(connection, [(sequence, Removal.ERASED) for sequence in sequences])
        generations = _erase_generations(connection, limits, app_id, subject_id)
        _revoke_examples(connection, examples)
        events = _erase_events(connection, app_id, subject_id)
        for table in (tables.prompts, tables.conflicts):
            connection.execute(delete(table).where(table.c.subject_id == subject_id, table.c.app_id == app_id))
    return ErasureReport(events, generations, tuple(sequences))


def _sequences(connection: Connection, app_id: str, subject_id: str) -> list[int]:
    table = tables.example_subjects
    query = _in_each(table.c.run, select(table.c.sequence))
    query = query.where(table.c.subject_id == subject_id, table.c.app_id == app_id)
    return list(connection.execute(query.order_by(table.c.sequence)).scalars())


def _in_each(column: Column[int], query: Select[Any]) -> Select[Any]:
    """The query with a search of its own for each value of the column that leads its index."""
    first = select(func.min(column).label("value")).cte(recursive=True)
    following = select(func.min(column)).where(column > first.c.value).scalar_subquery()
    values = first.union_all(select(following).where(first.c.value.is_not(None)))
    return query.join(values, values.c.value == column)


def _events_of_examples(connection: Connection, app_id: str, sequences: list[int]) -> list[FeedbackRow]:
    """The events that became these examples, as far as they are still known."""
    rows = matching_rows(connection, EXAMPLE_EVENTS, tables.examples.c.sequence, sequences)
    events = feedback_rows(connection, {row.event_id for row in rows})
    return [event for event in events if event.key.app_id == app_id]


def _erase_generations(connection: Connection, limits: Limits, app_id: str, subject_id: str) -> int:
    table = tables.generations
    query = _in_each(table.c.minute, select(table.c.generation_id, table.c.record_us))
    query = query.where(table.c.subject_id == subject_id, table.c.app_id == app_id)
    record_us = {Key(row.generation_id, app_id): row.record_us for row in connection.execute(query)}
    _revoke_answers(connection, limits, record_us)
    blank = {"subject_id": "", "content": b"", "prompt_hash": b"", "completions": 0, "is_erased": True}
    here = (table.c.generation_id == bindparam("key_id")) & (table.c.app_id == app_id)
    if record_us:
        connection.execute(update(table).where(here).values(blank), [{"key_id": key.id} for key in record_us])
    return len(record_us)


def _revoke_answers(connection: Connection, limits: Limits, record_us: dict[Key, int]) -> None:
    """Events about the erased generations that are no examples: their words may repeat the person's."""
    changed: dict[Key, FeedbackRow] = {}
    for generation, rows in events_naming(connection, record_us).items():
        for row in rows:
            row = changed.setdefault(row.key, row)
            row.body = b""
            if row.state in REVOCABLE and is_in_reach(record_us[generation], row.place.log_us, limits):
                row.state, row.reason = FeedbackState.ERASED, "GENERATION_ERASED"
    update_feedback(connection, changed.values())
    forget_mentions(connection, [row.key for row in changed.values() if not row.is_mentioned])


def _revoke_examples(connection: Connection, examples: list[FeedbackRow]) -> None:
    """Events that were examples with words of the person."""
    for row in examples:
        row.body, row.example_sequence = b"", 0
        row.state, row.reason = FeedbackState.ERASED, "GENERATION_ERASED"
    update_feedback(connection, examples)


def _erase_events(connection: Connection, app_id: str, subject_id: str) -> int:
    """Leaves stubs of the person's events, none of which is an example any more."""
    table = tables.feedback
    here = (table.c.subject_id == subject_id) & (table.c.app_id == app_id) & (table.c.state != tables.JOINED)
    events = connection.execute(select(table.c.event_id).where(here)).scalars().all()
    forget_mentions(connection, [Key(event_id, app_id) for event_id in events])
    blank = {
        "subject_id": "",
        "body_hash": b"",
        "opinion_key": b"",
        "accept_us": 0,
        "body": b"",
        "state": int(FeedbackState.ERASED),
        "reason": "SUBJECT_ERASED",
        "example_sequence": 0,
        "traceparent": "",
    }
    return connection.execute(update(table).where(here).values(blank)).rowcount
