"""Evidence from a log and a join database as the product writes them: sound at first, and then damaged by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from attune.api.events.v1 import events_pb2
from attune.domain.feedback import AcceptedFeedback, FeedbackEvent, Rating
from attune.feedback.join import tables
from attune.feedback.join.store import Advance, Store
from attune.platform.events.log import Topic
from attune.platform.events.memory import MemoryEventLog
from chaos import accounts, evidence
from chaos.accounts import Evidence
from chaos.ledger import Said
from feedback_samples import FEEDBACK, LIMITS, Script, a_generation, an_event, completion
from sqlalchemy import Connection, Engine, delete, insert, select, update

EVENTS = [an_event(1), an_event(2, Rating(completion(1, 1), 0.0)), an_event(3, Rating(completion(9), 1.0))]
CONTRADICTION = replace(EVENTS[1], source="another body")
SENT = [*EVENTS, CONTRADICTION, EVENTS[0]]


def said(event: FeedbackEvent) -> bytes:
    return Said.of(event).event_id


@pytest.fixture
def log() -> MemoryEventLog:
    log = MemoryEventLog()
    batch = events_pb2.FeedbackBatch(events=[AcceptedFeedback(event, 1.0).to_proto() for event in SENT])
    log.producer(Topic.FEEDBACK).append([batch.SerializeToString()])
    return log


@pytest.fixture
def engine(new_engine: Callable[[], Engine]) -> Engine:
    engine, script = new_engine(), Script()
    store = Store(engine, LIMITS, FEEDBACK)
    store.commit([script.generation(a_generation(1)), *map(script.event, SENT)], [])
    store.offset(Topic.FEEDBACK, 0, 0)
    return engine


def gathered(log: MemoryEventLog, engine: Engine) -> Evidence:
    examples = evidence.examples(engine)
    return Evidence(
        acknowledged=[Said.of(event) for event in SENT],
        on_topic=evidence.on_topic(log),
        events=evidence.event_rows(engine),
        conflicts=evidence.conflicts(engine),
        examples=examples,
        read=examples,
        taken_back=[],
        unanswerable=[said(EVENTS[2])],
    )


def test_what_the_product_wrote_is_sound(log: MemoryEventLog, engine: Engine) -> None:
    found = gathered(log, engine)
    assert (accounts.number(accounts.lost(found)), accounts.number(accounts.counted_twice(found))) == (0, 0)
    assert (len(found.on_topic), len(found.events), len(found.conflicts), len(found.examples)) == (5, 3, 1, 2)


def forget_event(connection: Connection) -> None:
    connection.execute(delete(tables.feedback).where(tables.feedback.c.event_id == said(EVENTS[0])))


def forget_conflict(connection: Connection) -> None:
    connection.execute(delete(tables.conflicts))


def forget_example(connection: Connection) -> None:
    connection.execute(delete(tables.examples).where(tables.examples.c.event_id == said(EVENTS[0])))


def expire(connection: Connection) -> None:
    connection.execute(update(tables.feedback).where(tables.feedback.c.state == tables.PENDING).values(state=6))


@pytest.mark.parametrize("damage", [forget_event, forget_conflict, forget_example, expire])
def test_what_the_join_forgot_is_lost(
    log: MemoryEventLog, engine: Engine, damage: Callable[[Connection], None]
) -> None:
    with engine.begin() as connection:
        damage(connection)
    assert accounts.number(accounts.lost(gathered(log, engine))) == 1


def test_an_example_made_twice_is_counted_twice(log: MemoryEventLog, engine: Engine) -> None:
    with engine.begin() as connection:
        row = connection.execute(select(tables.examples)).mappings().first()
        connection.execute(insert(tables.examples), {**row, "sequence": 99})
    assert accounts.number(accounts.counted_twice(gathered(log, engine))) == 1


def test_what_is_unread_goes_by_the_stored_offsets(log: MemoryEventLog, engine: Engine) -> None:
    consumers = {Topic.FEEDBACK: log.consumer(Topic.FEEDBACK)}
    assert evidence.unread(engine, consumers) == 1
    Store(engine, LIMITS, FEEDBACK).commit([], [Advance(Topic.FEEDBACK, 0, 0, 1)])
    assert evidence.unread(engine, consumers) == 0


def test_the_last_numbers_are_those_of_the_tables(engine: Engine) -> None:
    assert evidence.last_numbers(engine) == (2, 0)
