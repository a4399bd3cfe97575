"""Pages of examples and prompts, and the state of events."""

from __future__ import annotations

from attune.domain.examples import Example
from attune.domain.feedback import FeedbackState, Rating
from attune.feedback.join.reading import Reader
from attune.feedback.join.store import Store
from feedback_samples import APP, NOON_S, Script, a_generation, an_event, an_id, completion
from sqlalchemy import Engine


def with_examples(store: Store, number: int) -> Script:
    script = Script()
    store.commit([script.generation(a_generation())], [])
    store.commit([script.event(an_event(i, subject_id=f"person {i}")) for i in range(1, number + 1)], [])
    return script


def test_pages_cover_everything_once(store: Store, engine: Engine) -> None:
    with_examples(store, 7)
    seen: list[int] = []
    after = 0
    while (page := Reader(engine).examples(after, 3, 0)).last_sequence > after:
        seen += [example.sequence for example in page.examples]
        after = page.last_sequence
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert page.end_sequence == 7


def test_a_page_of_removed_examples_still_moves_on(store: Store, engine: Engine) -> None:
    script = with_examples(store, 2)
    changed = [an_event(10 + i, Rating(completion(1), 0.0), subject_id=f"person {i}") for i in (1, 2)]
    store.commit([script.event(event) for event in changed], [])
    page = Reader(engine).examples(0, 10, 0)
    assert [example.sequence for example in page.examples] == [3, 4]
    assert [(removal.id, removal.sequence) for removal in page.removals] == [(1, 1), (2, 2)]
    assert (page.last_sequence, page.last_removal) == (4, 2)
    page = Reader(engine).examples(4, 10, 2)
    assert (page.examples, page.last_sequence, page.removals, page.last_removal) == ((), 4, (), 2)


def test_an_example_on_the_wire_is_one_of_the_domain(store: Store, engine: Engine) -> None:
    with_examples(store, 1)
    (proto,) = Reader(engine).examples(0, 1, 0).examples
    example = Example.from_proto(proto)
    assert example.sequence == 1
    assert example.text_of(completion(1)) == "it is on its way"
    assert example.to_proto() == proto


def test_an_event_shows_its_state_its_body_and_its_example(store: Store, engine: Engine) -> None:
    with_examples(store, 2)
    status = Reader(engine).event(APP, an_id(1002))
    assert status is not None
    assert (status.state, status.example_sequence, status.accept_time) == (FeedbackState.JOINED, 2, NOON_S + 3)
    assert status.event == an_event(2, subject_id="person 2")
    assert Reader(engine).event(APP, an_id(9)) is None
    assert Reader(engine).event("other", an_id(1002)) is None


def test_a_refused_second_body_shows_beside_the_first(store: Store, engine: Engine) -> None:
    script = with_examples(store, 1)
    store.commit([script.event(an_event(1, Rating(completion(1), 0.0), subject_id="person 1"))], [])
    status = Reader(engine).event(APP, an_id(1001))
    assert status is not None
    assert (status.state, status.reason) == (FeedbackState.JOINED, "LATER_BODY_REFUSED")
    assert Reader(engine).state_counts() == {FeedbackState.JOINED: 1, FeedbackState.CONFLICT: 1}
