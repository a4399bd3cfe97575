"""A replay gives the rows of the live join, without those who were erased; whatever differs is found."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from attune.domain.errors import ConfigurationInvalid
from attune.feedback.join import tables
from attune.feedback.join.erasure import erase_subject
from attune.feedback.join.replay import Comparison, Kind, Replay, UpTo
from attune.feedback.join.store import Store
from attune.platform.events.log import Topic
from attune.platform.events.memory import MemoryEventLog
from feedback_samples import APP, FEEDBACK, LIMITS
from sqlalchemy import Engine, delete, insert, select, update
from unit.feedback.join.consuming import Clock, Feed, a_consumer, drain

DAYS_10_S = 864_000.0


class Live:
    """A join that has read a log drawn at random."""

    def __init__(self, new_engine: Callable[[str], Engine]) -> None:
        self.clock = Clock()
        self.log = MemoryEventLog(clock=self.clock)
        self.engine = new_engine("live")
        self.feed = Feed(self.log)
        self.consumer = a_consumer(self.log, self.engine, self.clock)
        self.read(1, 300)

    def read(self, seed: int, entries: int) -> None:
        self.feed.anything(random.Random(seed), entries)
        drain(self.consumer)

    def erase(self, subject_id: str) -> int:
        erased = Store(self.engine, LIMITS, FEEDBACK).erased
        return len(erase_subject(self.engine, erased, LIMITS, APP, subject_id, 1).example_sequences)

    def replayed(self, fresh: Engine, tell: Callable[[int, int], None] = lambda read, total: None) -> Comparison:
        return Replay(self.log, self.engine, fresh, LIMITS, DAYS_10_S, tell).run()


@pytest.fixture
def live(new_engine: Callable[[str], Engine]) -> Live:
    return Live(new_engine)


@pytest.fixture
def fresh(new_engine: Callable[[str], Engine]) -> Engine:
    return new_engine("fresh")


def test_a_replay_equals_the_live_join(live: Live, fresh: Engine) -> None:
    found = live.replayed(fresh)
    assert found.live == found.replayed > 20
    assert (found.differences, found.out_of_log) == (0, 0)


def test_what_the_live_join_has_not_read_is_left_out(live: Live, fresh: Engine) -> None:
    live.feed.anything(random.Random(2), 50)
    assert live.replayed(fresh).differences == 0


def test_erased_people_are_absent(live: Live, fresh: Engine) -> None:
    assert live.erase("ann") > 5
    found = live.replayed(fresh)
    assert (found.differences, found.live) == (0, found.replayed)
    assert "ann" not in people_in(fresh)


def test_who_is_erased_during_the_replay_is_absent_too(live: Live, fresh: Engine) -> None:
    """At its last word the log is read, and the snapshot of the live database not yet taken."""
    erased: list[int] = []

    def erase_at_the_end(read: int, total: int) -> None:
        if read == total and not erased:
            erased.append(live.erase("bob"))

    found = live.replayed(fresh, erase_at_the_end)
    assert erased[0] > 5
    assert (found.differences, found.live) == (0, found.replayed)
    assert "bob" not in people_in(fresh)


def people_in(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return set(connection.execute(select(tables.example_subjects.c.subject_id)).scalars())


def test_a_lost_an_invented_and_a_changed_example_are_found(live: Live, fresh: Engine) -> None:
    examples = tables.examples
    with live.engine.begin() as connection:
        lost, changed, copied = connection.execute(select(examples).order_by(examples.c.sequence).limit(3)).all()
        connection.execute(delete(examples).where(examples.c.sequence == lost.sequence))
        connection.execute(delete(tables.example_subjects).where(tables.example_subjects.c.sequence == lost.sequence))
        connection.execute(update(examples).where(examples.c.sequence == changed.sequence).values(content=b"other"))
        invented = copied._asdict() | {"sequence": 10_000, "event_id": bytes(16)}
        connection.execute(insert(examples), [invented])
    found = live.replayed(fresh)
    assert {(d.kind, d.event_id) for d in found.shown if d.what == "example"} == {
        (Kind.EXTRA, lost.event_id),
        (Kind.MISSING, changed.event_id),
        (Kind.EXTRA, changed.event_id),
        (Kind.MISSING, invented["event_id"]),
    }
    assert {(d.kind, d.event_id) for d in found.shown if d.what != "example"} == {(Kind.EXTRA, lost.event_id)}
    assert found.differences == len(found.shown)


def test_an_example_of_an_erased_person_is_a_difference(live: Live, fresh: Engine) -> None:
    live.erase("eve")
    with live.engine.begin() as connection:
        sequence = connection.execute(select(tables.examples.c.sequence).limit(1)).scalar_one()
        left_over = {"run": 0, "subject_id": "eve", "app_id": APP, "sequence": sequence}
        connection.execute(insert(tables.example_subjects), [left_over])
    found = live.replayed(fresh)
    assert {d.kind for d in found.shown if d.what == "example in the live database"} == {Kind.ERASED}


def test_of_a_trimmed_log_only_what_it_holds_whole_is_compared(live: Live, fresh: Engine) -> None:
    live.clock.now += 15 * 86_400
    live.feed.feedback.trim(live.clock.now)
    live.feed.generations.trim(live.clock.now)
    live.read(3, 100)
    found = live.replayed(fresh)
    assert found.out_of_log > 20
    assert (found.live, found.replayed, found.differences) == (0, 0, 0)


def test_a_database_that_has_read_a_log_is_refused(live: Live, fresh: Engine) -> None:
    live.replayed(fresh)
    with pytest.raises(ConfigurationInvalid, match="fresh"):
        live.replayed(fresh)


def test_a_bounded_consumer_ends_where_it_is_told() -> None:
    log = MemoryEventLog()
    log.producer(Topic.FEEDBACK).append([b"1", b"2", b"3"])
    consumer = UpTo(log.consumer(Topic.FEEDBACK), {0: 2})
    assert [r.value for r in consumer.read(0, 0)] == [b"1", b"2"]
    assert (consumer.read(0, 2), consumer.end_offset(0), consumer.wait({0: 2}, 0.0)) == ([], 2, False)
