"""Splits by person, draws for reward updates, caps of influence."""

import random

import pytest
from attune.domain.examples import Example, ExampleCompletion
from attune.domain.feedback import Comparison, FeedbackEvent
from attune.domain.ids import uuid7
from attune.domain.prompts import Prompt
from attune.trainer.examples import ExampleStore, Role, Split, capped_mass, draw_batches, influence_weights
from hypothesis import given
from hypothesis import strategies as st


def example(sequence: int, subject: str = "s") -> Example:
    generation = uuid7()
    a, b = f"{generation}/0", f"{generation}/1"
    return Example(
        sequence=sequence,
        prompt=Prompt.user("hello"),
        completions=(ExampleCompletion(a, "yes", "policies/p/revisions/1"), ExampleCompletion(b, "no", "")),
        event=FeedbackEvent(uuid7(), "app", subject, Comparison(a, b)),
        accept_time=float(sequence),
        generation_time=0.0,
    )


def test_a_subject_has_one_role_and_shares_come_out():
    split = Split(gate=0.2, held_out=0.15)
    roles = [split.role("app", f"user-{i}") for i in range(4000)]
    assert roles == [split.role("app", f"user-{i}") for i in range(4000)]
    assert roles.count(Role.HELD_OUT) / 4000 == pytest.approx(0.15, abs=0.03)
    assert roles.count(Role.GATE) / 4000 == pytest.approx(0.2, abs=0.03)


def test_store_is_bounded_and_forgets_removed():
    store = ExampleStore(Split(0, 0), capacity=3)
    store.add([example(i) for i in range(1, 6)])
    store.last_sequence = 5
    store.remove([4, 99])
    assert [e.sequence for e in store.of_role(Role.REWARD)] == [3, 5]
    assert [e.sequence for e in store.of_role(Role.REWARD, after=3)] == [5]
    assert [e.sequence for e in store.get([5, 4, 3])] == [5, 3]


def test_every_new_example_is_drawn_and_half_is_replay():
    new, old = [example(i) for i in range(100, 150)], [example(i) for i in range(1, 90)]
    draw = draw_batches(new, old, batch_size=16, steps=3, max_share=1.0, rng=random.Random(0))
    drawn = [s for batch in draw.batches for s in batch]
    assert {e.sequence for e in new} <= set(drawn)
    assert all(len(batch) == 16 and len(set(batch)) == 16 for batch in draw.batches)
    assert sum(s < 100 for s in draw.batches[0]) == 8


def test_draw_without_old_or_without_anything():
    new = [example(i) for i in range(1, 4)]
    draw = draw_batches(new, [], 16, 2, 1.0, random.Random(0))
    assert {s for b in draw.batches for s in b} == {1, 2, 3}
    assert draw_batches([], [], 16, 2, 1.0, random.Random(0)).batches == ()


def test_draw_is_a_function_of_its_seed():
    new, old = [example(i) for i in range(100, 120)], [example(i) for i in range(1, 50)]
    assert draw_batches(new, old, 8, 4, 0.2, random.Random(7)) == draw_batches(new, old, 8, 4, 0.2, random.Random(7))


def test_capped_mass_by_hand():
    # 80, 10, 10 with a share of one half: c = 0.5 (c + 20), so c = 20.
    assert capped_mass([80, 10, 10], 0.5) == pytest.approx(20)
    assert capped_mass([5, 5, 5, 5], 0.25) == 5
    assert capped_mass([50, 3], 0.1) == 3


@given(st.lists(st.integers(1, 200), min_size=1, max_size=40), st.floats(0.05, 1))
def test_no_subject_exceeds_its_share(counts, share):
    examples = [example(i * 1000 + j, f"user-{i}") for i, n in enumerate(counts) for j in range(n)]
    weights = influence_weights(examples, share)
    masses: dict[str, float] = {}
    for e in examples:
        masses[e.event.subject_id] = masses.get(e.event.subject_id, 0) + weights[e.sequence]
    fair = max(share, 1 / len(counts))
    assert max(masses.values()) <= fair * sum(masses.values()) * (1 + 1e-9)
