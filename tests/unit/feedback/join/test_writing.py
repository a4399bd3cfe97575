"""Writing: removals are numbered, prompts have one row each, events change in place."""

from __future__ import annotations

from attune.domain.feedback import FeedbackState, Rating
from attune.feedback.join import tables
from attune.feedback.join.database import become_writer
from attune.feedback.join.loading import feedback_rows
from attune.feedback.join.reading import Reader
from attune.feedback.join.rows import Key, Removal
from attune.feedback.join.store import Store
from attune.feedback.join.writing import remove_examples, update_feedback
from feedback_samples import APP, Script, a_generation, an_event, an_id, completion
from sqlalchemy import Engine, func, select


def test_removals_are_numbered_on(store: Store, engine: Engine) -> None:
    script = Script()
    store.commit([script.generation(a_generation()), script.event(an_event(1))], [])
    store.commit([script.event(an_event(2, Rating(completion(1), 0.0)))], [])
    with engine.begin() as connection:
        become_writer(connection)
        remove_examples(connection, [(2, Removal.ERASED)])
    page = Reader(engine).examples(0, 10, 0)
    assert [(r.id, r.sequence, r.reason) for r in page.removals] == [(1, 1, Removal.SUPERSEDED), (2, 2, Removal.ERASED)]
    assert page.examples == ()
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(tables.example_subjects)).scalar() == 0


def test_an_event_changes_in_place_and_alone(store: Store, engine: Engine) -> None:
    script = Script()
    store.commit([script.event(an_event(1)), script.event(an_event(1, app_id="other"))], [])
    with engine.begin() as connection:
        become_writer(connection)
        (row,) = [r for r in feedback_rows(connection, [Key.of(an_id(1001), APP).id]) if r.key.app_id == APP]
        row.state, row.reason = FeedbackState.EXPIRED, "NEVER_CAME"
        update_feedback(connection, [row])
    reader = Reader(engine)
    changed, other = reader.event(APP, an_id(1001)), reader.event("other", an_id(1001))
    assert changed is not None
    assert other is not None
    assert (changed.state, other.state) == (FeedbackState.EXPIRED, FeedbackState.PENDING)


def test_a_prompt_has_one_row_and_keeps_its_first_spelling(store: Store, engine: Engine) -> None:
    script = Script()
    for number, prompt in enumerate(("Where is it?", "where  IS it?"), start=1):
        store.commit([script.generation(a_generation(number, prompt=prompt))], [])
    prompts = Reader(engine).prompts(0, 10)
    assert [(p.sequence, p.prompt.messages[0].content) for p in prompts] == [(1, "Where is it?")]


def test_what_was_said_stands_once(store: Store, engine: Engine) -> None:
    """In the example while there is one, and again with the event when it was superseded."""
    script = Script()
    first, second = an_event(1), an_event(2, Rating(completion(1), 0.0))
    store.commit([script.generation(a_generation()), script.event(first)], [])
    assert bodies(engine) == [b""]
    store.commit([script.event(second)], [])
    assert bodies(engine) == [b"", first.to_proto().SerializeToString(deterministic=True)]
    for event in (first, second):
        status = Reader(engine).event(APP, event.event_id)
        assert status is not None
        assert status.event == event


def bodies(engine: Engine) -> list[bytes]:
    with engine.connect() as connection:
        return sorted(connection.execute(select(tables.feedback.c.body)).scalars())
