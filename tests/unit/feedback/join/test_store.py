"""Batches, offsets, expiry and forgetting, on a real database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from attune.domain.errors import OffsetConflict
from attune.domain.feedback import FeedbackState, Rating
from attune.feedback.join import tables
from attune.feedback.join.reading import Reader
from attune.feedback.join.rows import DAY_US
from attune.feedback.join.store import FORGOTTEN_AT_ONCE, Advance, Store
from feedback_samples import (
    APP,
    FEEDBACK,
    GENERATIONS,
    LIMITS,
    NOON_S,
    Script,
    a_generation,
    a_ranking,
    an_event,
    an_id,
    completion,
    rows_of,
)
from sqlalchemy import Engine, select

NOON_US = round(NOON_S * 1_000_000)


def state_of(engine: Engine, number: int = 1) -> tuple[FeedbackState, str]:
    status = Reader(engine).event(APP, an_id(1000 + number))
    assert status is not None
    return status.state, status.reason


def test_an_event_joins_its_generation_and_becomes_an_example(store: Store, engine: Engine) -> None:
    script = Script()
    ranked = a_ranking(completion(1, 1), completion(1, 0))
    store.commit([script.generation(a_generation()), script.event(an_event(1, ranked))], [])
    assert state_of(engine) == (FeedbackState.JOINED, "")
    example = Reader(engine).example(1)
    assert example is not None
    assert [c.text for c in example.completions] == ["no idea", "it is on its way"]
    assert example.event == an_event(1, ranked)
    assert (example.accept_time, example.generation_time) == (NOON_S + 2, NOON_S + 1)


def test_feedback_before_its_generation_waits_for_it(store: Store, engine: Engine) -> None:
    script = Script()
    store.commit([script.event(an_event())], [])
    assert state_of(engine) == (FeedbackState.PENDING, "GENERATION_UNKNOWN")
    assert Reader(engine).pending() == 1
    store.commit([script.generation(a_generation())], [])
    assert state_of(engine) == (FeedbackState.JOINED, "")
    assert Reader(engine).pending() == 0


def test_a_zombie_commits_nothing(store: Store, engine: Engine) -> None:
    script = Script()
    assert store.offset(FEEDBACK, 0, 5) == 5
    assert store.offset(FEEDBACK, 0, 9) == 5
    zombie = Store(engine, LIMITS, FEEDBACK)
    store.commit([script.event(an_event(1))], [Advance(FEEDBACK, 0, 5, 6)])
    before = rows_of(engine)
    with pytest.raises(OffsetConflict, match="no longer at offset 5"):
        zombie.commit([script.event(an_event(2))], [Advance(FEEDBACK, 0, 5, 6)])
    assert rows_of(engine) == before
    assert Reader(engine).offsets() == {(FEEDBACK, 0): 6}


def test_one_moved_offset_of_two_undoes_both(store: Store, engine: Engine) -> None:
    store.offset(FEEDBACK, 0, 0)
    store.offset(GENERATIONS, 0, 0)
    with pytest.raises(OffsetConflict):
        store.commit([], [Advance(FEEDBACK, 0, 0, 3), Advance(GENERATIONS, 0, 1, 3)])
    assert set(Reader(engine).offsets().values()) == {0}


def test_of_two_consumers_at_once_exactly_one_commits(store: Store, engine: Engine) -> None:
    store.offset(FEEDBACK, 0, 0)
    entry = Script().event(an_event())
    outcomes: list[str] = []

    def consume() -> None:
        try:
            Store(engine, LIMITS, FEEDBACK).commit([entry], [Advance(FEEDBACK, 0, 0, 1)])
            outcomes.append("committed")
        except OffsetConflict:
            outcomes.append("refused")

    threads = [threading.Thread(target=consume) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["committed", "refused", "refused", "refused"]
    assert Reader(engine).state_counts() == {FeedbackState.PENDING: 1}


def test_what_fails_before_the_commit_leaves_no_trace(store: Store, engine: Engine) -> None:
    store.offset(FEEDBACK, 0, 0)

    def full_disk(_changes: object) -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        store.commit([Script().event(an_event())], [Advance(FEEDBACK, 0, 0, 1)], full_disk)
    assert Reader(engine).state_counts() == {}
    assert Reader(engine).offsets() == {(FEEDBACK, 0): 0}


def test_events_whose_generation_never_came_expire_by_log_time(store: Store, engine: Engine) -> None:
    store.commit([Script().event(an_event(), at_s=0)], [])
    assert store.expire(NOON_US + LIMITS.pending_ttl_us) == 0
    assert store.expire(NOON_US + LIMITS.pending_ttl_us + 1) == 1
    assert state_of(engine) == (FeedbackState.EXPIRED, "NEVER_CAME")


def test_whole_days_are_forgotten_but_what_waits(store: Store, engine: Engine) -> None:
    script = Script()
    old = [script.generation(a_generation(), at_s=0), script.event(an_event(1), at_s=0)]
    waiting = script.event(an_event(2, Rating(completion(9), 1.0)), at_s=0)
    store.commit([*old, waiting], [])
    store.forget(NOON_US + 10 * DAY_US, feedback_retention_us=20 * DAY_US)
    assert len(rows_of(engine)["generations"]) == 0
    assert len(rows_of(engine)["feedback"]) == 2
    store.forget(NOON_US + 30 * DAY_US, feedback_retention_us=20 * DAY_US)
    rows = rows_of(engine)
    assert (len(rows["feedback"]), len(rows["mentions"]), len(rows["examples"])) == (1, 0, 1)


def test_many_rows_are_forgotten_in_several_transactions(store: Store, engine: Engine) -> None:
    script, events = Script(), FORGOTTEN_AT_ONCE + 10
    people = [script.event(an_event(n, subject_id=f"person {n}"), at_s=1) for n in range(events)]
    store.commit([script.generation(a_generation(), at_s=0), *people], [])
    assert store.forget(NOON_US + 30 * DAY_US, feedback_retention_us=20 * DAY_US) == events + 1
    assert Reader(engine).state_counts() == {}


def test_prompts_are_the_most_recent_distinct_ones(engine: Engine) -> None:
    store, script = Store(engine, replace(LIMITS, prompt_capacity=3), FEEDBACK), Script()
    for i in range(5):
        asked = [a_generation(2 * i, prompt=f"question {i}"), a_generation(2 * i + 1, prompt=f"Question  {i}")]
        store.commit([script.generation(g) for g in asked], [])
    assert [p.prompt.messages[0].content for p in Reader(engine).prompts(0, 10)] == [
        "question 2",
        "question 3",
        "question 4",
    ]
    store.commit([script.generation(a_generation(99, prompt="question 0"))], [])
    assert [p.sequence for p in Reader(engine).prompts(0, 10)] == [4, 5, 6]


def test_policy_revisions_are_noted_when_first_seen(store: Store, engine: Engine) -> None:
    script = Script()
    second = "policies/support/revisions/2"
    store.commit([script.generation(a_generation(1)), script.generation(a_generation(2))], [])
    store.commit([script.generation(a_generation(3, revision=second)), script.generation(a_generation(4))], [])
    with engine.connect() as connection:
        seen = connection.execute(select(tables.seen_policies).order_by(tables.seen_policies.c.first_us)).all()
    assert [(row.first_us - NOON_US) // 1_000_000 for row in seen] == [1, 3]


def test_names_of_databases_do_not_mix(new_engine: Callable[[str], Engine]) -> None:
    one, other = new_engine("one"), new_engine("other")
    Store(one, LIMITS, FEEDBACK).commit([Script().event(an_event())], [])
    assert Reader(other).state_counts() == {}
