"""Erases a person from the join database: their events, generations, prompts, and every example that holds their words.

What stays is the salted hash that keeps them out of replays, and stubs (ids without content) so that a retry, a late
opinion or an answer about an erased conversation meets the same verdict as in a replay. Weights are not unlearned.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Engine, delete, select, update

from attune.domain.feedback import FeedbackState
from attune.feedback.join import tables
from attune.feedback.join.database import become_writer, slices
from attune.feedback.join.erased import Erased
from attune.feedback.join.loading import events_naming
from attune.feedback.join.rows import FeedbackRow, Key, Limits, Removal, is_in_reach
from attune.feedback.join.writing import remove_examples, update_feedback

# States that an event leaves when a generation it names is erased; see the order of rules in `matching`.
REVOCABLE = (FeedbackState.PENDING, FeedbackState.JOINED, FeedbackState.CONFLICT)


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
        remove_examples(connection, [(sequence, Removal.ERASED) for sequence in sequences])
        generations = _erase_generations(connection, limits, app_id, subject_id)
        events = _erase_events(connection, app_id, subject_id)
        for table in (tables.prompts, tables.conflicts):
            connection.execute(delete(table).where(table.c.subject_id == subject_id, table.c.app_id == app_id))
    return ErasureReport(events, generations, tuple(sequences))


def _sequences(connection: Connection, app_id: str, subject_id: str) -> list[int]:
    table = tables.example_subjects
    query = select(table.c.sequence).where(table.c.subject_id == subject_id, table.c.app_id == app_id)
    return list(connection.execute(query.order_by(table.c.sequence)).scalars())


def _erase_generations(connection: Connection, limits: Limits, app_id: str, subject_id: str) -> int:
    table = tables.generations
    query = select(table.c.generation_id, table.c.record_us).where(
        table.c.subject_id == subject_id, table.c.app_id == app_id
    )
    record_us = {Key(row.generation_id, app_id): row.record_us for row in connection.execute(query)}
    _revoke_answers(connection, limits, record_us)
    for some in slices(key.id for key in record_us):
        here = table.c.generation_id.in_(some) & (table.c.app_id == app_id)
        blank = {"subject_id": "", "content": b"", "prompt_hash": b"", "completions": 0, "is_erased": True}
        connection.execute(update(table).where(here).values(blank))
    return len(record_us)


def _revoke_answers(connection: Connection, limits: Limits, record_us: dict[Key, int]) -> None:
    """Events of others about the erased generations: their words may repeat the person's."""
    changed: dict[Key, FeedbackRow] = {}
    for generation, rows in events_naming(connection, record_us).items():
        for row in rows:
            row = changed.setdefault(row.key, row)
            row.body = b""
            if row.state in REVOCABLE and is_in_reach(record_us[generation], row.place.log_us, limits):
                row.state, row.reason, row.example_sequence = FeedbackState.ERASED, "GENERATION_ERASED", 0
    update_feedback(connection, changed.values())


def _erase_events(connection: Connection, app_id: str, subject_id: str) -> int:
    table, mentions = tables.feedback, tables.mentions
    here = (table.c.subject_id == subject_id) & (table.c.app_id == app_id)
    for some in slices(connection.execute(select(table.c.event_id).where(here)).scalars().all()):
        connection.execute(delete(mentions).where(mentions.c.event_id.in_(some), mentions.c.app_id == app_id))
    blank = {
        "subject_id": "",
        "body_hash": b"",
        "opinion_key": b"",
        "accept_us": 0,
        "body": b"",
        "state": int(FeedbackState.ERASED),
        "reason": "SUBJECT_ERASED",
        "example_sequence": 0,
    }
    return connection.execute(update(table).where(here).values(blank)).rowcount
