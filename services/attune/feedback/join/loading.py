"""Reads what a batch of entries may touch: set-based queries, a few a batch whatever its size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, select

from attune.domain.feedback import FeedbackState
from attune.feedback.join import tables
from attune.feedback.join.database import read_counters
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
    body_in,
    stored,
)
from attune.feedback.join.statements import matching_rows

STATES = {int(state): state for state in FeedbackState}
GENERATIONS = select(tables.generations)
EVENTS = select(tables.feedback, tables.examples.c.content).outerjoin_from(
    tables.feedback, tables.examples, tables.IS_EXAMPLE_OF_EVENT
)
STANDING = EVENTS.where(tables.feedback.c.state != tables.SUPERSEDED)
PROMPTS = select(tables.prompts.c.prompt_hash, tables.prompts.c.sequence)
MENTIONS = select(tables.mentions.c.generation_id, tables.mentions.c.app_id, tables.mentions.c.event_id)


def load(connection: Connection, entries: Sequence[Entry], erased: Erased) -> Known:
    """What the database holds of the ids, opinions, prompts and people that the entries name."""
    brought = [entry.row for entry in entries if isinstance(entry, GenerationEntry)]
    events = [entry for entry in entries if isinstance(entry, FeedbackEntry)]
    counters = read_counters(connection)
    known = Known(last_example=counters["examples"], last_prompt=counters["prompts"])
    people = {(row.key.app_id, row.subject_id) for row in brought}
    people.update((entry.key.app_id, entry.subject_id) for entry in events)
    known.erased = erased.among(connection, people)
    keys = {row.key for row in brought}
    _load_generations(connection, known, keys.union(*(entry.said.generations for entry in events)))
    _load_prompts(connection, known, {row.prompt_hash for row in brought})
    for row in feedback_rows(connection, {entry.key.id for entry in events}):
        known.feedback[row.key] = row
    _load_opinions(connection, known, {entry.opinion_key for entry in events})
    _load_waiting(connection, known, keys - known.generations.keys())
    return known


def feedback_rows(connection: Connection, event_ids: Iterable[bytes]) -> list[FeedbackRow]:
    """The events of these ids, of whatever app."""
    return list(map(_as_feedback, matching_rows(connection, EVENTS, tables.feedback.c.event_id, event_ids)))


def events_naming(connection: Connection, generations: Iterable[Key]) -> dict[Key, list[FeedbackRow]]:
    """The events that name each of the generations, without those that have become examples."""
    wanted = set(generations)
    named: dict[Key, list[Key]] = {}
    column = tables.mentions.c.generation_id
    for generation_id, app_id, event_id in matching_rows(connection, MENTIONS, column, {key.id for key in wanted}):
        if (generation := Key(generation_id, app_id)) in wanted:
            named.setdefault(generation, []).append(Key(event_id, app_id))
    rows = feedback_rows(connection, {event.id for events in named.values() for event in events})
    by_key = {row.key: row for row in rows}
    return {generation: [by_key[e] for e in events if e in by_key] for generation, events in named.items()}


def _load_generations(connection: Connection, known: Known, keys: set[Key]) -> None:
    rows = matching_rows(connection, GENERATIONS, tables.generations.c.generation_id, {key.id for key in keys})
    for generation_id, app_id, *values, _minute in rows:
        row = GenerationRow(Key(generation_id, app_id), *values)
        known.generations[row.key] = row


def _load_prompts(connection: Connection, known: Known, hashes: set[bytes]) -> None:
    known.prompts = dict(map(tuple, matching_rows(connection, PROMPTS, tables.prompts.c.prompt_hash, hashes)))


def _load_opinions(connection: Connection, known: Known, opinions: set[bytes]) -> None:
    for found in matching_rows(connection, STANDING, tables.feedback.c.opinion_key, opinions):
        row = _as_feedback(found)
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
                others.update(stored(row).generations)
    _load_generations(connection, known, others - known.generations.keys() - arriving)


def _as_feedback(row: Any) -> FeedbackRow:
    event_id, app_id, subject_id, body_hash, opinion_key, log_us, partition, offset, index, *rest, _day, content = row
    accept_us, body, state, reason, example_sequence, traceparent = rest
    return FeedbackRow(
        Key(event_id, app_id),
        subject_id,
        body_hash,
        opinion_key,
        Place(log_us, partition, offset, index),
        accept_us,
        body if content is None else body_in(content),
        STATES[state],
        reason,
        example_sequence,
        traceparent,
    )
