"""Writes what a batch concluded: one statement a table, whatever the size of the batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update

from attune.domain.feedback import FeedbackState
from attune.feedback.join import tables
from attune.feedback.join.matching import Changes, Matcher
from attune.feedback.join.rows import (
    ConflictRow,
    ExampleRow,
    FeedbackRow,
    GenerationRow,
    Key,
    PromptRow,
    Removal,
    day_of,
    minute_of,
    run_of,
)
from attune.feedback.join.statements import delete_matching, insert_rows, matching_rows

CHANGING = ("state", "reason", "example_sequence", "body", "traceparent")
POLICIES = select(tables.seen_policies.c.revision)


def write(connection: Connection, matcher: Matcher) -> None:
    """Everything the matcher changed, in the transaction of the caller."""
    changes, known = matcher.changes, matcher.known
    insert_rows(connection, tables.generations, [_generation_values(row) for row in changes.generations])
    insert_rows(connection, tables.feedback, [_feedback_values(row) for row in changes.new_feedback.values()])
    update_feedback(connection, changes.changed_feedback.values())
    _write_mentions(connection, changes, known.feedback)
    insert_rows(connection, tables.conflicts, [_conflict_values(row) for row in changes.conflicts])
    _write_examples(connection, changes.examples.values())
    remove_examples(connection, changes.removals)
    _write_prompts(connection, list(changes.prompts.values()), known.last_prompt - matcher.limits.prompt_capacity)
    _set_counters(connection, {"examples": known.last_example, "prompts": known.last_prompt})
    _note_policies(connection, changes.revisions)


def update_feedback(connection: Connection, rows: Iterable[FeedbackRow]) -> None:
    """Writes what can change of events."""
    table = tables.feedback
    statement = (
        update(table)
        .where(table.c.event_id == bindparam("key_id"), table.c.app_id == bindparam("key_app"))
        .values({name: bindparam(f"new_{name}") for name in CHANGING})
    )
    values = [
        {
            "key_id": row.key.id,
            "key_app": row.key.app_id,
            "new_state": int(row.state),
            "new_reason": row.reason,
            "new_example_sequence": row.example_sequence,
            "new_body": _kept_body(row),
            "new_traceparent": _kept_traceparent(row),
        }
        for row in rows
    ]
    if values:
        connection.execute(statement, values)


def remove_examples(connection: Connection, removals: Sequence[tuple[int, Removal]]) -> None:
    """Deletes examples and tells readers, in order, with numbers of their own."""
    if not removals:
        return
    for table in (tables.examples, tables.example_subjects):
        delete_matching(connection, table, table.c.sequence, [sequence for sequence, _ in removals])
    counters = tables.counters
    last = connection.execute(select(counters.c.value).where(counters.c.name == "removals")).scalar_one()
    rows = [(last + i, sequence, int(reason)) for i, (sequence, reason) in enumerate(removals, start=1)]
    insert_rows(connection, tables.removals, rows)
    _set_counters(connection, {"removals": last + len(rows)})


def forget_mentions(connection: Connection, events: Iterable[Key]) -> None:
    """Deletes what the events name."""
    table = tables.mentions
    statement = delete(table).where(table.c.event_id == bindparam("key_id"), table.c.app_id == bindparam("key_app"))
    values = [{"key_id": event.id, "key_app": event.app_id} for event in events]
    if values:
        connection.execute(statement, values)


def _feedback_values(row: FeedbackRow) -> tuple[Any, ...]:
    """An event as columns."""
    return (
        *row.key,
        row.subject_id,
        row.body_hash,
        row.opinion_key,
        *row.place,
        row.accept_us,
        _kept_body(row),
        int(row.state),
        row.reason,
        row.example_sequence,
        _kept_traceparent(row),
        day_of(row.place.log_us),
    )


def _kept_body(row: FeedbackRow) -> bytes:
    return b"" if row.state is FeedbackState.JOINED else row.body


def _kept_traceparent(row: FeedbackRow) -> str:
    """For the example that the event may become; once it is one, the example holds it."""
    return row.traceparent if row.state is FeedbackState.PENDING else ""


def _generation_values(row: GenerationRow) -> tuple[Any, ...]:
    return (*row.key, *row[1:], minute_of(row.record_us))


def _conflict_values(row: ConflictRow) -> tuple[Any, ...]:
    log_us, *place = row.place
    return (row.topic, *place, *row.key, row.subject_id, row.body_hash, day_of(log_us))


def _write_mentions(connection: Connection, changes: Changes, feedback: Mapping[Key, FeedbackRow]) -> None:
    forget_mentions(connection, [event for event in changes.mentions if event not in changes.new_feedback])
    rows = [
        (generation.id, event.app_id, event.id, day_of(feedback[event].place.log_us))
        for event, generations in changes.mentions.items()
        for generation in generations
    ]
    insert_rows(connection, tables.mentions, rows)


def _write_examples(connection: Connection, rows: Iterable[ExampleRow]) -> None:
    values, subjects = [], []
    for row in rows:
        values.append((row.sequence, *row.key, row.content, row.accept_us, row.generation_us))
        subjects += [(run_of(row.sequence), subject, row.key.app_id, row.sequence) for subject in row.subjects]
    insert_rows(connection, tables.examples, values)
    insert_rows(connection, tables.example_subjects, sorted(subjects))


def _write_prompts(connection: Connection, rows: Sequence[PromptRow], last_dropped: int) -> None:
    """Adds prompts, one row a prompt, and drops those that the window has left behind."""
    if not rows:
        return
    table = tables.prompts
    delete_matching(connection, table, table.c.prompt_hash, [row.prompt_hash for row in rows])
    insert_rows(connection, table, rows)
    connection.execute(delete(table).where(table.c.sequence <= last_dropped))


def _set_counters(connection: Connection, values: Mapping[str, int]) -> None:
    counters = tables.counters
    statement = update(counters).where(counters.c.name == bindparam("series")).values(value=bindparam("last"))
    connection.execute(statement, [{"series": name, "last": value} for name, value in values.items()])


def _note_policies(connection: Connection, revisions: Mapping[str, int]) -> None:
    """Remembers when each policy revision first wrote for a person; `freshness` follows it up."""
    table = tables.seen_policies
    present = {row.revision for row in matching_rows(connection, POLICIES, table.c.revision, revisions)}
    fresh = [(revision, first_us, False) for revision, first_us in revisions.items() if revision not in present]
    insert_rows(connection, table, fresh)
