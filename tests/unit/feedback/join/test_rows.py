"""Rows made of entries: an example is a function of one event, its generations and the log's clock."""

from __future__ import annotations

from dataclasses import replace

import pytest
from attune.api.types.v1 import examples_pb2
from attune.domain.examples import Example
from attune.domain.feedback import Comparison, FeedbackState
from attune.domain.generations import Generation, RevisionSpan
from attune.feedback.join.rows import (
    DAY_US,
    GenerationRow,
    Key,
    Place,
    day_of,
    disagreement,
    erased_row,
    example_row,
    feedback_row,
    generation_entry,
    is_in_reach,
    minute_of,
    prompt_row,
    said_by,
    stored,
    tombstone,
)
from feedback_samples import (
    APP,
    GENERATIONS,
    LIMITS,
    NOON_S,
    Script,
    a_generation,
    a_ranking,
    an_event,
    an_id,
    completion,
)

NOON_US = round(NOON_S * 1_000_000)


def generation_row(generation: Generation, record_us: int) -> GenerationRow:
    return generation_entry(GENERATIONS, Place(record_us, 0, 0, 0), generation.to_proto(), generation.prompt).row


def test_a_place_is_compared_by_time_then_by_position() -> None:
    places = [Place(1, 0, 9, 0), Place(1, 1, 0, 0), Place(2, 0, 0, 0), Place(2, 0, 0, 1)]
    assert sorted(reversed(places)) == places


def test_a_generation_keeps_texts_and_revisions_and_no_tokens() -> None:
    row = generation_row(a_generation(1, texts=("yes", "no", "perhaps")), NOON_US)
    assert (row.completions, row.record_us, row.key) == (3, NOON_US, Key.of(an_id(1), APP))
    assert b"perhaps" in row.content
    assert len(row.content) < 400
    stub = tombstone(row)
    assert (stub.content, stub.subject_id, stub.prompt_hash, stub.is_erased) == (b"", "", b"", True)


def test_an_engine_that_changed_its_weights_meanwhile_leaves_all_who_wrote() -> None:
    generation = a_generation(1, texts=("yes", "no"))
    whole, other = generation.completions
    spans = tuple(RevisionSpan(f"policies/support/revisions/{n}", n - 1, 1) for n in (1, 2, 3))
    row = generation_row(replace(generation, completions=(whole, replace(other, spans=spans))), NOON_US)
    one, two = examples_pb2.Example.FromString(row.content).completions
    assert (one.revision, list(one.later_revisions)) == (whole.spans[0].revision, [])
    names = [span.revision for span in spans]
    assert [two.revision, *two.later_revisions] == names


def test_prompts_that_differ_in_spacing_and_case_have_one_hash() -> None:
    one, other = (generation_row(a_generation(1, prompt=p), 0) for p in ("Hello  there", "hello there"))
    assert one.prompt_hash == other.prompt_hash


def test_an_event_survives_its_row() -> None:
    event = an_event(1, Comparison(completion(2), completion(1, 1)))
    entry = Script().event(event)
    row = feedback_row(entry)
    assert stored(row) == entry.said == said_by(event)
    assert row.body_hash == event.body_hash
    assert entry.said.completions == ((Key.of(an_id(2), APP), 0), (Key.of(an_id(1), APP), 1))
    assert entry.said.generations == (Key.of(an_id(2), APP), Key.of(an_id(1), APP))


def test_an_opinion_stands_beside_others_about_its_generation() -> None:
    """Whichever of the named completions comes first in the event."""
    events = [an_event(1, a_ranking(completion(a), completion(b))) for a, b in ((1, 2), (2, 1))]
    one, other = (Script().event(event).opinion_key for event in events)
    assert one == other == Key.of(an_id(1), APP).id + events[0].opinion_key[:16]


@pytest.mark.parametrize("state", FeedbackState)
@pytest.mark.parametrize("body", [b"words", b""], ids=["words", "no words"])
def test_generations_are_noted_while_they_matter(state: FeedbackState, body: bytes) -> None:
    row = replace(feedback_row(Script().event(an_event())), state=state, body=body)
    matters = state is FeedbackState.PENDING or (body and state is not FeedbackState.JOINED)
    assert row.is_mentioned == bool(matters)


def test_an_erased_event_keeps_its_id_and_its_place_alone() -> None:
    entry = Script().event(an_event())
    row = erased_row(entry)
    assert row.place == entry.place
    assert (row.subject_id, row.body, row.body_hash, row.opinion_key, row.accept_us) == ("", b"", b"", b"", 0)


def test_an_example_holds_the_named_completions_in_order_of_naming() -> None:
    event = an_event(1, Comparison(completion(2, 1), completion(1, 0)), subject_id="eve")
    entry = Script().event(event, at_s=7)
    rows = [
        generation_row(a_generation(1, texts=("one", "two")), NOON_US + 5),
        generation_row(a_generation(2, texts=("three", "four"), subject_id="bob"), NOON_US + 3),
    ]
    example = example_row(4, feedback_row(entry), entry.said, {row.key: row for row in rows})
    assert example.subjects == {"eve", "ann", "bob"}
    assert example.generation_us == NOON_US + 5
    proto = examples_pb2.Example.FromString(example.content)
    assert proto.sequence == 0
    read = Example.from_proto(proto)
    assert [c.text for c in read.completions] == ["four", "one"]
    assert (read.accept_time, read.event) == (NOON_S + 7, event)


def test_disagreements_are_named() -> None:
    event = an_event(1, Comparison(completion(1, 0), completion(2, 1)))
    said = said_by(event)
    rows = {row.key: row for row in (generation_row(a_generation(n), 0) for n in (1, 2))}
    assert disagreement(said, rows) == ""
    short = {key: row._replace(completions=1) for key, row in rows.items()}
    assert disagreement(said, short) == "COMPLETION_UNKNOWN"
    other = generation_row(a_generation(2, prompt="another"), 0)
    assert disagreement(said, rows | {other.key: other}) == "PROMPTS_DIFFER"


def test_reach_has_two_ends_both_included() -> None:
    event_us = 10 * DAY_US
    earliest, latest = event_us - LIMITS.generation_retention_us, event_us + LIMITS.pending_ttl_us
    assert [is_in_reach(t, event_us, LIMITS) for t in (earliest - 1, earliest, latest, latest + 1)] == [
        False,
        True,
        True,
        False,
    ]
    assert (day_of(event_us), minute_of(event_us)) == (10, 14_400)


def test_a_prompt_row_keeps_who_asked() -> None:
    row = prompt_row(3, Script().generation(a_generation(1, prompt="hello")))
    assert (row.sequence, row.app_id, row.subject_id, len(row.prompt_hash)) == (3, APP, "ann", 32)
