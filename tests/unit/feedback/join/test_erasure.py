"""Erasing a person: their rows, and every example and answer that holds their words."""

from __future__ import annotations

from attune.domain.feedback import Comparison, Demonstration, FeedbackState, Rating
from attune.feedback.join import tables
from attune.feedback.join.erasure import ErasureReport, erase_subject
from attune.feedback.join.reading import Reader
from attune.feedback.join.rows import Entry, Key, Removal
from attune.feedback.join.statements import insert_rows
from attune.feedback.join.store import Store
from feedback_samples import APP, LIMITS, Script, a_generation, an_event, an_id, completion, rows_of
from sqlalchemy import Engine


def erase(store: Store, subject_id: str = "ann") -> ErasureReport:
    return erase_subject(store.engine, store.erased, LIMITS, APP, subject_id, erase_us=1)


def states(engine: Engine, *numbers: int) -> list[tuple[FeedbackState, str]]:
    found = [Reader(engine).event(APP, an_id(1000 + number)) for number in numbers]
    return [(status.state, status.reason) for status in found if status is not None]


def test_everything_of_a_person_goes_and_readers_are_told(store: Store, engine: Engine) -> None:
    script = Script()
    store.commit(
        [
            script.generation(a_generation(1, prompt="my address is 5 Elm Street")),
            script.generation(a_generation(2, subject_id="bob", prompt="hello")),
            script.event(an_event(1)),
            script.event(an_event(2, Rating(completion(2), 1.0), subject_id="bob")),
            script.event(an_event(3, Rating(completion(1), 0.0), subject_id="bob")),
        ],
        [],
    )
    report = erase(store)
    assert report == ErasureReport(events=1, generations=1, example_sequences=(1, 3))
    page = Reader(engine).examples(0, 10, 0)
    assert [example.sequence for example in page.examples] == [2]
    assert [(r.id, r.sequence, r.reason) for r in page.removals] == [(1, 1, Removal.ERASED), (2, 3, Removal.ERASED)]
    assert (page.last_sequence, page.end_sequence) == (3, 3)
    assert states(engine, 1, 2, 3) == [
        (FeedbackState.ERASED, "SUBJECT_ERASED"),
        (FeedbackState.JOINED, ""),
        (FeedbackState.ERASED, "GENERATION_ERASED"),
    ]
    assert [p.prompt.messages[0].content for p in Reader(engine).prompts(0, 10)] == ["hello"]
    everything = repr(rows_of(engine))
    assert "Elm Street" not in everything
    assert "ann" not in everything


def test_an_erased_person_stays_out(store: Store, engine: Engine) -> None:
    erase(store)
    script = Script()
    store.commit([script.generation(a_generation()), script.event(an_event())], [])
    assert states(engine, 1) == [(FeedbackState.ERASED, "SUBJECT_ERASED")]
    assert Reader(engine).examples(0, 10, 0).examples == ()
    assert Reader(engine).prompts(0, 10) == []


def test_the_same_name_in_another_app_is_another_person(store: Store, engine: Engine) -> None:
    script = Script()
    store.commit([script.generation(a_generation(app_id="other")), script.event(an_event(app_id="other"))], [])
    assert erase(store) == ErasureReport(0, 0, ())
    assert len(Reader(engine).examples(0, 10, 0).examples) == 1


def test_a_second_erasure_finds_nothing_left(store: Store) -> None:
    script = Script()
    store.commit([script.generation(a_generation()), script.event(an_event())], [])
    assert erase(store).events == 1
    assert erase(store) == ErasureReport(0, 0, ())


def test_answers_about_an_erased_conversation_lose_their_words(store: Store, engine: Engine) -> None:
    script = Script()
    words = Demonstration(completion(1), "dear Ann of Elm Street")
    store.commit(
        [
            script.generation(a_generation()),
            script.event(an_event(1, words, subject_id="bob")),
            script.event(an_event(2, words, subject_id="bob")),
        ],
        [],
    )
    erase(store)
    assert "Elm Street" not in repr(rows_of(engine))
    assert states(engine, 1, 2) == [
        (FeedbackState.SUPERSEDED, "NEWER_OPINION"),
        (FeedbackState.ERASED, "GENERATION_ERASED"),
    ]


def test_a_person_is_found_in_every_minute_and_every_run(store: Store, engine: Engine) -> None:
    """Also where minutes lie far apart, and runs hold nothing of them."""
    script, asked_s = Script(), (0, 59, 3600, 86_400)
    entries: list[Entry] = [script.generation(a_generation(n), at_s=s) for n, s in enumerate(asked_s, start=1)]
    entries.append(script.generation(a_generation(9, subject_id="bob"), at_s=7200))
    store.commit([*entries, script.event(an_event(1), at_s=1)], [])
    runs = [(3, "ann", APP, 5), (3, "bob", APP, 6), (7, "ann", APP, 9), (7, "ann", "other", 10)]
    with engine.begin() as connection:
        insert_rows(connection, tables.example_subjects, runs)
    assert erase(store) == ErasureReport(events=1, generations=4, example_sequences=(1, 5, 9))
    assert sorted(row[1:3] for row in rows_of(engine)["example_subjects"]) == [("ann", "other"), ("bob", APP)]


def test_an_answer_that_waits_or_was_superseded_loses_its_words(store: Store, engine: Engine) -> None:
    script = Script()
    unknown = completion(7)
    words = [
        Comparison(completion(1), unknown),
        Comparison(unknown, completion(1)),
        Demonstration(unknown, "Elm Street"),
    ]
    events = [script.event(an_event(n, said, subject_id="bob")) for n, said in enumerate(words, start=1)]
    store.commit([script.generation(a_generation(1)), *events], [])
    assert [state for state, _ in states(engine, 1, 2, 3)] == [
        FeedbackState.SUPERSEDED,
        FeedbackState.PENDING,
        FeedbackState.PENDING,
    ]
    erase(store)
    assert [state for state, _ in states(engine, 1, 2, 3)] == [
        FeedbackState.SUPERSEDED,
        FeedbackState.ERASED,
        FeedbackState.PENDING,
    ]
    statuses = [Reader(engine).event(APP, an_id(1000 + n)) for n in (1, 2, 3)]
    assert [status is not None and status.event is not None for status in statuses] == [False, False, True]
    assert {row[2] for row in rows_of(engine)["mentions"]} == {Key.of(an_id(1003), APP).id}
