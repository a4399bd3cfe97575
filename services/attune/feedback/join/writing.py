"""Writes what a batch concluded: one statement a table, whatever the size of the batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, insert, select, update

from attune.feedback.join import tables
from attune.feedback.join.database import slices
from attune.feedback.join.matching import Matcher
from attune.feedback.join.rows import ConflictRow, ExampleRow, FeedbackRow, GenerationRow, PromptRow, Removal, day_of


def write(connection: Connection, matcher: Matcher) -> None:
    """Everything the matcher changed, in the transaction of the caller."""
    changes, known = matcher.changes, matcher.known
    _insert(connection, tables.generations, map(_generation_values, changes.generations))
    _insert(connection, tables.feedback, map(_feedback_values, changes.new_feedback.values()))
    update_feedback(connection, changes.changed_feedback.values())
    mentions = [
        {"generation_id": generation.id, "app_id": event.app_id, "event_id": event.id, "day": day}
        for generation, event, day in changes.mentions
    ]
    _insert(connection, tables.mentions, mentions)
    _insert(connection, tables.conflicts, map(_conflict_values, changes.conflicts))
    _write_examples(connection, list(changes.examples.values()))
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
        .values({name: bindparam(f"new_{name}") for name in ("state", "reason", "example_sequence", "body")})
    )
    values = [
        {
            "key_id": row.key.id,
            "key_app": row.key.app_id,
            "new_state": int(row.state),
            "new_reason": row.reason,
            "new_example_sequence": row.example_sequence,
            "new_body": row.body,
        }
        for row in rows
    ]
    if values:
        connection.execute(statement, values)


def remove_examples(connection: Connection, removals: Sequence[tuple[int, Removal]]) -> None:
    """Deletes examples and tells readers, in order, with numbers of their own."""
    if not removals:
        return
    for some in slices(sequence for sequence, _ in removals):
        for table in (tables.examples, tables.example_subjects):
            connection.execute(delete(table).where(table.c.sequence.in_(some)))
    counters = tables.counters
    last = connection.execute(select(counters.c.value).where(counters.c.name == "removals")).scalar_one()
    rows = [
        {"id": last + i, "sequence": sequence, "reason": int(reason)}
        for i, (sequence, reason) in enumerate(removals, start=1)
    ]
    connection.execute(insert(tables.removals), rows)
    _set_counters(connection, {"removals": last + len(rows)})


def _feedback_values(row: FeedbackRow) -> dict[str, Any]:
    """An event as columns."""
    return {
        "event_id": row.key.id,
        "app_id": row.key.app_id,
        "subject_id": row.subject_id,
        "body_hash": row.body_hash,
        "opinion_key": row.opinion_key,
        "log_us": row.place.log_us,
        "partition": row.place.partition,
        "offset": row.place.offset,
        "index": row.place.index,
        "accept_us": row.accept_us,
        "body": row.body,
        "state": int(row.state),
        "reason": row.reason,
        "example_sequence": row.example_sequence,
        "day": day_of(row.place.log_us),
    }


def _insert(connection: Connection, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    if values := list(rows):
        connection.execute(insert(table), values)


def _generation_values(row: GenerationRow) -> dict[str, Any]:
    return {
        "generation_id": row.key.id,
        "app_id": row.key.app_id,
        "subject_id": row.subject_id,
        "content": row.content,
        "prompt_hash": row.prompt_hash,
        "completions": row.completions,
        "record_us": row.record_us,
        "is_erased": row.is_erased,
        "day": day_of(row.record_us),
    }


def _conflict_values(row: ConflictRow) -> dict[str, Any]:
    return {
        "topic": row.topic,
        "partition": row.place.partition,
        "offset": row.place.offset,
        "index": row.place.index,
        "event_id": row.key.id,
        "app_id": row.key.app_id,
        "subject_id": row.subject_id,
        "body_hash": row.body_hash,
        "day": day_of(row.place.log_us),
    }


def _write_examples(connection: Connection, rows: Sequence[ExampleRow]) -> None:
    values = [
        {
            "sequence": row.sequence,
            "event_id": row.key.id,
            "app_id": row.key.app_id,
            "content": row.content,
            "accept_us": row.accept_us,
            "generation_us": row.generation_us,
        }
        for row in rows
    ]
    _insert(connection, tables.examples, values)
    subjects = [
        {"subject_id": subject, "app_id": row.key.app_id, "sequence": row.sequence}
        for row in rows
        for subject in sorted(row.subjects)
    ]
    _insert(connection, tables.example_subjects, subjects)


def _write_prompts(connection: Connection, rows: Sequence[PromptRow], last_dropped: int) -> None:
    """Adds prompts, one row a prompt, and drops those that the window has left behind."""
    if not rows:
        return
    table = tables.prompts
    for some in slices(row.prompt_hash for row in rows):
        connection.execute(delete(table).where(table.c.prompt_hash.in_(some)))
    _insert(connection, table, (vars(row) for row in rows))
    connection.execute(delete(table).where(table.c.sequence <= last_dropped))


def _set_counters(connection: Connection, values: Mapping[str, int]) -> None:
    counters = tables.counters
    statement = update(counters).where(counters.c.name == bindparam("series")).values(value=bindparam("last"))
    connection.execute(statement, [{"series": name, "last": value} for name, value in values.items()])


def _note_policies(connection: Connection, revisions: Mapping[str, int]) -> None:
    """Remembers when each policy revision first wrote for a person; `freshness` follows it up."""
    table = tables.seen_policies
    present: set[str] = set()
    for some in slices(revisions):
        present.update(connection.execute(select(table.c.revision).where(table.c.revision.in_(some))).scalars())
    fresh = (
        {"revision": revision, "first_us": first_us, "is_resolved": False}
        for revision, first_us in revisions.items()
        if revision not in present
    )
    _insert(connection, table, fresh)
