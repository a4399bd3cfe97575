"""What the database gives back is what matching in one go would know: a log may be cut anywhere."""

from __future__ import annotations

import random
from collections.abc import Callable

from attune.domain.feedback import Comparison
from attune.feedback.join.loading import events_naming, load
from attune.feedback.join.rows import Key
from attune.feedback.join.store import Store
from feedback_samples import (
    APP,
    FEEDBACK,
    LIMITS,
    Script,
    a_generation,
    an_event,
    an_id,
    completion,
    rows_of,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from unit.feedback.join.logs import a_log, in_another_order


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_a_log_may_be_cut_anywhere(new_engine: Callable[[str], Engine], seed: int) -> None:
    dice = random.Random(seed)
    entries = in_another_order(a_log(dice, 60), dice)
    whole, pieces = new_engine(f"whole-{seed}"), new_engine(f"pieces-{seed}")
    Store(whole, LIMITS, FEEDBACK).commit(entries, [])
    store = Store(pieces, LIMITS, FEEDBACK)
    rest = list(entries)
    while rest:
        length = dice.randint(1, 9)
        store.commit(rest[:length], [])
        rest = rest[length:]
    assert rows_of(pieces) == rows_of(whole)


def test_what_waits_brings_the_other_generations_it_names(store: Store, engine: Engine) -> None:
    script = Script()
    both = an_event(1, Comparison(completion(1), completion(2)))
    store.commit([script.generation(a_generation(1)), script.event(both)], [])
    arriving = script.generation(a_generation(2))
    with engine.connect() as connection:
        known = load(connection, [arriving], store.erased)
    assert known.waiting == {Key.of(an_id(2), APP): [Key.of(an_id(1001), APP)]}
    assert set(known.generations) == {Key.of(an_id(1), APP)}


def test_events_are_found_by_the_generation_they_name(store: Store, engine: Engine) -> None:
    script = Script()
    events = [an_event(1), an_event(2, subject_id="bob"), an_event(3, app_id="other")]
    store.commit([script.event(event) for event in events], [])
    with engine.connect() as connection:
        found = events_naming(connection, [Key.of(an_id(1), APP), Key.of(an_id(2), APP)])
    assert {key: len(rows) for key, rows in found.items()} == {Key.of(an_id(1), APP): 2}
