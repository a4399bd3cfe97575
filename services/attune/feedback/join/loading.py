"""Reads what a batch of entries may touch: set-based queries, a few a batch whatever its size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, select

from attune.domain.feedback import FeedbackState
from attune.feedback.join import tables
from attune.feedback.join.database import read_counters, slices
from attune.feedback.join.erased import Erased
from attune.feedback.join.matching import Known
from attune.feedback.join.rows import (
    Entry,
    FeedbackEntry,
    FeedbackRow,
    GenerationEntry,
    GenerationRow,
    Key,
    Place,
    named_generations,
    stored_event,
)


def load(connection: Connection, entries: Sequence[Entry], erased: Erased) -> Known:
    """What the database holds of the ids, opinions, prompts and people that the entries name."""
    brought = [e.generation for e in entries if isinstance(e, GenerationEntry)]
    events = [e.accepted.event for e in entries if isinstance(e, FeedbackEntry)]
    counters = read_counters(connection)
    known = Known(last_example=counters["examples"], last_prompt=counters["prompts"])
    people = {(g.app_id, g.subject_id) for g in brought} | {(e.app_id, e.subject_id) for e in events}
    known.erased = erased.among(connection, people)
    keys = {Key.of(g.id, g.app_id) for g in brought}
    _load_generations(connection, known, keys.union(*map(named_generations, events)))
    _load_prompts(connection, known, {bytes.fromhex(g.prompt.hash) for g in brought})
    _load_events(connection, known, {Key.of(e.event_id, e.app_id).id for e in events})
    _load_opinions(connection, known, {e.opinion_key for e in events})
    _load_waiting(connection, known, keys - known.generations.keys())
    return known


def matching_rows(
    connection: Connection, query: Select[Any], column: ColumnElement[Any], values: Iterable[Any]
) -> Iterator[Row[Any]]:
    """The rows of a query whose column is one of many values, in as few statements as the database allows."""
    for some in slices(values):
        yield from connection.execute(query.where(column.in_(some)))


def feedback_rows(connection: Connection, column: ColumnElement[Any], values: Iterable[Any]) -> list[FeedbackRow]:
    """Events whose column is one of many values."""
    return [_as_feedback(row) for row in matching_rows(connection, select(tables.feedback), column, values)]


def events_naming(connection: Connection, generations: Iterable[Key]) -> dict[Key, list[FeedbackRow]]:
    """The events that name each of the generations."""
    wanted, feedback, mentions = set(generations), tables.feedback, tables.mentions
    query = select(mentions.c.generation_id, feedback).join_from(
        mentions,
        feedback,
        (mentions.c.event_id == feedback.c.event_id) & (mentions.c.app_id == feedback.c.app_id),
    )
    found: dict[Key, list[FeedbackRow]] = {}
    for row in matching_rows(connection, query, mentions.c.generation_id, [key.id for key in wanted]):
        if (key := Key(row.generation_id, row.app_id)) in wanted:
            found.setdefault(key, []).append(_as_feedback(row))
    return found


def _load_generations(connection: Connection, known: Known, keys: set[Key]) -> None:
    table: Table = tables.generations
    for row in matching_rows(connection, select(table), table.c.generation_id, {key.id for key in keys}):
        key = Key(row.generation_id, row.app_id)
        known.generations[key] = GenerationRow(
            key=key,
            subject_id=row.subject_id,
            content=row.content,
            prompt_hash=row.prompt_hash,
            completions=row.completions,
            record_us=row.record_us,
            is_erased=row.is_erased,
        )


def _load_prompts(connection: Connection, known: Known, hashes: set[bytes]) -> None:
    table = tables.prompts
    query = select(table.c.prompt_hash, table.c.sequence)
    rows = matching_rows(connection, query, table.c.prompt_hash, hashes)
    known.prompts = {row.prompt_hash: row.sequence for row in rows}


def _load_events(connection: Connection, known: Known, event_ids: set[bytes]) -> None:
    for row in feedback_rows(connection, tables.feedback.c.event_id, event_ids):
        known.feedback[row.key] = row


def _load_opinions(connection: Connection, known: Known, opinions: set[bytes]) -> None:
    for row in feedback_rows(connection, tables.feedback.c.opinion_key, opinions):
        if row.state is not FeedbackState.SUPERSEDED:
            row = known.feedback.setdefault(row.key, row)
            known.newest[row.opinion_key] = row.key


def _load_waiting(connection: Connection, known: Known, arriving: set[Key]) -> None:
    """Events that named a generation before it came, and the other generations that they name."""
    others: set[Key] = set()
    for generation, rows in events_naming(connection, arriving).items():
        for row in rows:
            row = known.feedback.setdefault(row.key, row)
            known.waiting.setdefault(generation, []).append(row.key)
            if row.state is FeedbackState.PENDING and row.body:
                others.update(named_generations(stored_event(row)))
    _load_generations(connection, known, others - known.generations.keys() - arriving)


def _as_feedback(row: Row[Any]) -> FeedbackRow:
    return FeedbackRow(
        key=Key(row.event_id, row.app_id),
        subject_id=row.subject_id,
        body_hash=row.body_hash,
        opinion_key=row.opinion_key,
        place=Place(row.log_us, row.partition, row.offset, row._mapping["index"]),
        accept_us=row.accept_us,
        body=row.body,
        state=FeedbackState(row.state),
        reason=row.reason,
        example_sequence=row.example_sequence,
    )
