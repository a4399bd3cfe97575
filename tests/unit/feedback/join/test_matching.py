"""The rules of matching, one by one, and against a slow literal oracle over any order of the log."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from attune.domain.feedback import Comparison, Demonstration, FeedbackEvent, FeedbackState, Rating
from attune.domain.prompts import Prompt
from attune.feedback.join.matching import Changes, Known, Matcher
from attune.feedback.join.rows import (
    Entry,
    FeedbackEntry,
    FeedbackRow,
    GenerationEntry,
    Key,
    is_in_reach,
    tombstone,
)
from feedback_samples import APP, FEEDBACK, LIMITS, Script, a_generation, a_ranking, an_event, an_id, completion
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.feedback.join.logs import a_log, in_another_order


def play(entries: Sequence[Entry], known: Known | None = None) -> tuple[dict[Key, FeedbackRow], Changes]:
    """All entries in one batch, from nothing."""
    matcher = Matcher(known or Known(), LIMITS, FEEDBACK)
    for entry in entries:
        matcher.play(entry)
    return matcher.known.feedback, matcher.changes


def event_key(number: int) -> Key:
    return Key.of(an_id(1000 + number), APP)


def test_the_same_event_twice_counts_once() -> None:
    script = Script()
    entries = [script.generation(a_generation()), script.event(an_event()), script.event(an_event())]
    _, changes = play(entries)
    assert changes.results == Counter(generation=1, joined=1, duplicate=1)
    assert len(changes.examples) == 1


def test_another_body_under_a_taken_id_is_a_conflict_and_a_dead_letter() -> None:
    script = Script()
    other = an_event(1, Rating(completion(1), 0.0))
    rows, changes = play([script.generation(a_generation()), script.event(an_event()), script.event(other)])
    assert rows[event_key(1)].state is FeedbackState.JOINED
    assert [c.place.offset for c in changes.conflicts] == [1]
    assert [d.reason for d in changes.set_aside] == ["BODY_DIFFERS"]
    assert changes.examples[1].accept_us == rows[event_key(1)].place.log_us


def test_the_last_opinion_counts_and_the_earlier_example_is_removed() -> None:
    script = Script()
    first, second = an_event(1, Rating(completion(1), 1.0)), an_event(2, Rating(completion(1), 0.0))
    rows, changes = play([script.generation(a_generation()), script.event(first), script.event(second)])
    assert (rows[event_key(1)].state, rows[event_key(1)].reason) == (FeedbackState.SUPERSEDED, "NEWER_OPINION")
    assert rows[event_key(2)].state is FeedbackState.JOINED
    assert changes.removals == [(1, 1)]
    assert list(changes.examples) == [2]


def test_an_opinion_that_was_read_late_does_not_count() -> None:
    script = Script()
    generation = script.generation(a_generation())
    early, late = script.event(an_event(1)), script.event(an_event(2, Rating(completion(1), 0.0)))
    rows, changes = play([generation, late, early])
    assert rows[event_key(1)].state is FeedbackState.SUPERSEDED
    assert rows[event_key(2)].state is FeedbackState.JOINED
    assert changes.removals == []


def test_kinds_and_people_have_opinions_of_their_own() -> None:
    script = Script()
    events = [
        an_event(1, Rating(completion(1), 1.0)),
        an_event(2, Demonstration(completion(1), "it arrives today")),
        an_event(3, Rating(completion(1), 0.0), subject_id="bob"),
        an_event(4, Rating(completion(1, 1), 0.0)),
    ]
    rows, _ = play([script.generation(a_generation()), *map(script.event, events)])
    assert {row.state for row in rows.values()} == {FeedbackState.JOINED}


@pytest.mark.parametrize("feedback_first", [True, False])
def test_completions_of_different_prompts_conflict(feedback_first: bool) -> None:
    script = Script()
    generations = [
        script.generation(a_generation(1, prompt="where is it?")),
        script.generation(a_generation(2, prompt="who are you?")),
    ]
    event = script.event(an_event(1, Comparison(completion(1), completion(2))))
    rows, changes = play([event, *generations] if feedback_first else [*generations, event])
    assert (rows[event_key(1)].state, rows[event_key(1)].reason) == (FeedbackState.CONFLICT, "PROMPTS_DIFFER")
    assert [(d.topic, d.place.offset, d.reason) for d in changes.set_aside] == [(FEEDBACK, 0, "PROMPTS_DIFFER")]
    assert changes.examples == {}


def test_completions_of_two_generations_of_one_prompt_join() -> None:
    script = Script()
    generations = [
        script.generation(a_generation(1, prompt="Where is it?")),
        script.generation(a_generation(2, prompt="where  is it?", texts=("there",))),
    ]
    event = an_event(1, a_ranking(completion(2), completion(1, 1)))
    _, changes = play([*generations, script.event(event)])
    assert changes.examples[1].generation_us == generations[1].place.log_us


def test_an_unknown_completion_conflicts() -> None:
    script = Script()
    rows, changes = play([script.generation(a_generation()), script.event(an_event(1, Rating(completion(1, 7), 1.0)))])
    assert (rows[event_key(1)].state, rows[event_key(1)].reason) == (FeedbackState.CONFLICT, "COMPLETION_UNKNOWN")
    assert [d.reason for d in changes.set_aside] == ["COMPLETION_UNKNOWN"]


def test_another_app_has_other_generations() -> None:
    script = Script()
    rows, _ = play([script.generation(a_generation(app_id="other")), script.event(an_event())])
    assert rows[event_key(1)].state is FeedbackState.PENDING


def test_a_generation_id_used_again_keeps_its_first_meaning() -> None:
    script = Script()
    same, other = a_generation(1), a_generation(1, texts=("something", "else"))
    _, changes = play([script.generation(g) for g in (same, same, other)])
    assert changes.results == Counter(generation=1, generation_duplicate=1)
    assert [d.reason for d in changes.set_aside] == ["GENERATION_ID_REUSED"]


def test_an_erased_person_leaves_stubs_only() -> None:
    script = Script()
    known = Known(erased={(APP, "ann")})
    others = an_event(2, Demonstration(completion(1), "repeats what ann said"), subject_id="bob")
    entries = [script.event(others), script.generation(a_generation()), script.event(an_event(1))]
    rows, changes = play(entries, known)
    assert (rows[event_key(1)].state, rows[event_key(1)].reason) == (FeedbackState.ERASED, "SUBJECT_ERASED")
    assert (rows[event_key(2)].state, rows[event_key(2)].reason) == (FeedbackState.ERASED, "GENERATION_ERASED")
    assert [row.body for row in rows.values()] == [b"", b""]
    assert (changes.examples, changes.prompts) == ({}, {})
    assert [(g.is_erased, g.content, g.subject_id) for g in changes.generations] == [(True, b"", "")]


def test_a_tombstone_revokes_the_next_opinion_too() -> None:
    script = Script()
    known = Known(generations={})
    stub = tombstone(script.generation(a_generation()).row)
    known.generations[stub.key] = stub
    rows, _ = play([script.event(an_event(1, subject_id="bob")), script.event(an_event(2, subject_id="bob"))], known)
    assert rows[event_key(1)].state is FeedbackState.SUPERSEDED
    assert rows[event_key(2)].state is FeedbackState.ERASED
    assert [row.body for row in rows.values()] == [b"", b""]


# The literal oracle: reads the whole log, twice, event by event, and keeps no state but lists.


@dataclass(frozen=True)
class Verdict:
    state: FeedbackState
    reason: str


def event_of(entry: FeedbackEntry) -> FeedbackEvent:
    return FeedbackEvent.from_proto(entry.said.event)


def oracle(entries: Sequence[Entry], erased: set[str]) -> tuple[dict[str, Verdict], list[int]]:
    """Final verdict of each event id and the offsets of refused second bodies."""
    generations: dict[str, GenerationEntry] = {}
    for entry in sorted((e for e in entries if isinstance(e, GenerationEntry)), key=lambda e: e.place):
        generations.setdefault(entry.generation.id, entry)
    events = sorted((e for e in entries if isinstance(e, FeedbackEntry)), key=lambda e: e.place)
    firsts: dict[str, FeedbackEntry] = {}
    refused = []
    for entry in events:
        event = event_of(entry)
        first = firsts.setdefault(event.event_id, entry)
        if event != event_of(first) and event.subject_id not in erased:
            refused.append(entry.place.offset)
    verdicts = {}
    for event_id, entry in firsts.items():
        verdicts[event_id] = _verdict(entry, list(firsts.values()), generations, erased)
    return verdicts, refused


def _verdict(
    entry: FeedbackEntry, firsts: list[FeedbackEntry], generations: dict[str, GenerationEntry], erased: set[str]
) -> Verdict:
    event = event_of(entry)
    if event.subject_id in erased:
        return Verdict(FeedbackState.ERASED, "SUBJECT_ERASED")
    for other in firsts:
        said = event_of(other)
        same = (said.subject_id, said.feedback.kind) == (event.subject_id, event.feedback.kind)
        if (
            same
            and other.place > entry.place
            and set(said.feedback.completion_ids) == set(event.feedback.completion_ids)
        ):
            return Verdict(FeedbackState.SUPERSEDED, "NEWER_OPINION")
    found = [g for name in event.generation_ids if (g := generations.get(name)) and _reaches(g, entry)]
    if any(g.generation.subject_id in erased for g in found):
        return Verdict(FeedbackState.ERASED, "GENERATION_ERASED")
    if len(found) < len(event.generation_ids):
        return Verdict(FeedbackState.PENDING, "GENERATION_UNKNOWN")
    ids = {c.id for g in found for c in g.generation.completions}
    if not ids.issuperset(event.feedback.completion_ids):
        return Verdict(FeedbackState.CONFLICT, "COMPLETION_UNKNOWN")
    if len({Prompt.from_proto(g.generation.prompt).normal_form for g in found}) > 1:
        return Verdict(FeedbackState.CONFLICT, "PROMPTS_DIFFER")
    return Verdict(FeedbackState.JOINED, "")


def _reaches(generation: GenerationEntry, event: FeedbackEntry) -> bool:
    return is_in_reach(generation.place.log_us, event.place.log_us, LIMITS)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), length=st.integers(1, 40), erased=st.sampled_from([(), ("eve",), ("ann",)]))
def test_any_interleaving_ends_where_the_oracle_says(seed: int, length: int, erased: tuple[str, ...]) -> None:
    dice = random.Random(seed)
    log = a_log(dice, length)
    order = in_another_order(log, dice)
    verdicts, refused = oracle(log, set(erased))
    for entries in (log, order):
        rows, changes = play(entries, Known(erased={(APP, subject) for subject in erased}))
        assert {k.id: Verdict(r.state, r.reason) for k, r in rows.items()} == {
            event_key(int(name[-4:], 16) - 1000).id: verdict for name, verdict in verdicts.items()
        }
        assert [c.place.offset for c in changes.conflicts] == refused
        joined = {row.example_sequence for row in rows.values() if row.state is FeedbackState.JOINED}
        assert set(changes.examples) == joined
        assert joined.isdisjoint(sequence for sequence, _ in changes.removals)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), length=st.integers(1, 40))
def test_examples_do_not_depend_on_the_interleaving(seed: int, length: int) -> None:
    dice = random.Random(seed)
    log = a_log(dice, length)
    one, other = (play(entries)[1] for entries in (log, in_another_order(log, dice)))
    assert sorted(e.content for e in one.examples.values()) == sorted(e.content for e in other.examples.values())
    assert one.prompts == other.prompts


def test_delays_are_log_time_between_event_and_generation() -> None:
    script = Script()
    _, changes = play([script.event(an_event(), at_s=0), script.generation(a_generation(), at_s=20)])
    assert changes.delays_us == [20_000_000]
