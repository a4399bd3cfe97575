"""Rows made of entries: an example is a function of one event, its generations and the log's clock."""

from __future__ import annotations

from dataclasses import replace

from attune.api.types.v1 import examples_pb2
from attune.domain.examples import Example
from attune.domain.feedback import Comparison
from attune.feedback.join.rows import (
    DAY_US,
    Key,
    Place,
    day_of,
    disagreement,
    erased_row,
    example_row,
    feedback_row,
    generation_row,
    is_in_reach,
    named_generations,
    prompt_row,
    stored_event,
    tombstone,
)
from feedback_samples import APP, LIMITS, NOON_S, Script, a_generation, an_event, an_id, completion

NOON_US = round(NOON_S * 1_000_000)


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


def test_prompts_that_differ_in_spacing_and_case_have_one_hash() -> None:
    one, other = (generation_row(a_generation(1, prompt=p), 0) for p in ("Hello  there", "hello there"))
    assert one.prompt_hash == other.prompt_hash


def test_an_event_survives_its_row() -> None:
    event = an_event(1, Comparison(completion(2), completion(1)))
    row = feedback_row(Script().event(event))
    assert stored_event(row) == event
    assert (row.body_hash, row.opinion_key) == (event.body_hash, event.opinion_key)
    assert named_generations(event) == [Key.of(an_id(2), APP), Key.of(an_id(1), APP)]


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
    example = example_row(4, feedback_row(entry), event, {row.key: row for row in rows})
    assert example.subjects == {"eve", "ann", "bob"}
    assert example.generation_us == NOON_US + 5
    proto = examples_pb2.Example.FromString(example.content)
    assert proto.sequence == 0
    read = Example.from_proto(proto)
    assert [c.text for c in read.completions] == ["four", "one"]
    assert (read.accept_time, read.event) == (NOON_S + 7, event)


def test_disagreements_are_named() -> None:
    event = an_event(1, Comparison(completion(1, 0), completion(2, 1)))
    rows = {row.key: row for row in (generation_row(a_generation(n), 0) for n in (1, 2))}
    assert disagreement(event, rows) == ""
    short = {key: replace(row, completions=1) for key, row in rows.items()}
    assert disagreement(event, short) == "COMPLETION_UNKNOWN"
    other = generation_row(a_generation(2, prompt="another"), 0)
    assert disagreement(event, rows | {other.key: other}) == "PROMPTS_DIFFER"


def test_reach_has_two_ends_both_included() -> None:
    event_us = 10 * DAY_US
    earliest, latest = event_us - LIMITS.generation_retention_us, event_us + LIMITS.pending_ttl_us
    assert [is_in_reach(t, event_us, LIMITS) for t in (earliest - 1, earliest, latest, latest + 1)] == [
        False,
        True,
        True,
        False,
    ]
    assert day_of(event_us) == 10


def test_a_prompt_row_keeps_who_asked() -> None:
    row = prompt_row(3, a_generation(1, prompt="hello"))
    assert (row.sequence, row.app_id, row.subject_id, len(row.prompt_hash)) == (3, APP, "ann", 32)
