"""The grammar: rich, readable by itself, reproducible, and its held-out prompts occur in no training text."""

from __future__ import annotations

import random

import pytest
from attune.simulation import grammar
from attune.simulation.language.forms import Quality, normal_form


@pytest.mark.parametrize("kind", grammar.KINDS)
def test_prompts_are_many_and_read_back_whole(kind: str) -> None:
    rng = random.Random(1)
    cases = [grammar.sample_prompt(rng, kind) for _ in range(2000)]

    assert len({case.prompt for case in cases}) > 1700
    for case in cases:
        assert grammar.read_prompt(case.prompt) == case
        assert case.kind == kind
        assert normal_form(case.thing) in normal_form(case.prompt)


def test_no_training_text_holds_a_held_out_prompt() -> None:
    rng = random.Random(2)
    training = {chat[0]["content"] for chat in grammar.pretraining_text(rng, 4000)}
    training |= {row["prompt"] for row in grammar.demonstrations(rng, 4000)}
    training = {normal_form(prompt) for prompt in training}

    held_out = grammar.held_out_prompts(random.Random(3), 600)

    assert not training & {normal_form(case.prompt) for case in held_out}
    assert not any(map(grammar.is_held_out, training))


def test_an_exchange_replies_to_one_sentence_of_the_prompt_truly_and_fittingly() -> None:
    rng = random.Random(10)
    parts = set()
    for _ in range(1500):
        case = grammar.sample_prompt(rng)
        if (pair := grammar.exchange(case, rng)) is None:
            continue
        said, reply = pair
        assert said in case.prompt
        assert not grammar.is_held_out(said)
        for form in grammar.LANGUAGES[case.kind].answer_forms:
            if match := form.pattern().fullmatch(normal_form(reply)):
                facts = {slot: normal_form(value) for slot, value in case.facts.items()}
                assert all(facts[slot] == value for slot, value in match.groupdict().items())
                assert form.topic in ("", case.topic, case.mood)
                parts.add(form.part)
    assert parts == {"greeting", "empathy", "warmth", "product", "action", "comment", "question"}


def test_a_note_tells_every_fact_the_topic_and_the_mood() -> None:
    case = grammar.read_prompt("Hi, I am Mia. My Velora has not come yet. The order is 482. I am very angry.")
    assert case is not None
    assert grammar.note(case) == (
        "The name is Mia. It is about Velora. The order is 482. The topic is late. The mood is angry."
    )


def test_held_out_prompts_are_balanced_distinct_and_begin_with_the_showcase() -> None:
    cases = grammar.held_out_prompts(random.Random(4), 60)

    assert [sum(case.kind == kind for case in cases) for kind in grammar.KINDS] == [20, 20, 20]
    assert len({case.prompt for case in cases}) == 60
    assert set(grammar.SHOWCASE) <= {case.prompt for case in cases}
    assert {c.kind for c in grammar.held_out_prompts(random.Random(4), 5, kind="safety")} == {"safety"}


def test_showcase_is_understood_and_covers_every_kind() -> None:
    shown = grammar.showcase()

    assert len(shown) == len(grammar.SHOWCASE)
    assert {case.kind for case in shown} == set(grammar.KINDS)
    assert any(case.topic == "chemical" for case in shown)


def test_split_ignores_case_and_spacing_and_takes_about_a_tenth() -> None:
    prompts = [f"question {i}" for i in range(5000)]

    assert 0.08 < sum(map(grammar.is_held_out, prompts)) / 5000 < 0.12
    assert all(grammar.is_held_out(p) == grammar.is_held_out(f" {p.upper()}  ") for p in prompts)


def test_same_seed_same_texts() -> None:
    first, second = (list(grammar.pretraining_text(random.Random(5), 50)) for _ in range(2))
    assert first == second
    assert first != list(grammar.pretraining_text(random.Random(6), 50))


def test_read_prompt_gives_none_for_what_is_not_of_the_language() -> None:
    for text in ("", "???", "What is the capital of France?", "Hi, I am Mia.", "Where is my Velora? Buy hats now."):
        assert grammar.read_prompt(text) is None


def test_answers_are_different_and_never_empty() -> None:
    rng = random.Random(7)
    for _ in range(50):
        found = grammar.answers(grammar.sample_prompt(rng), rng, 6)
        assert len(set(found)) == 6
        assert all(found)


def test_good_answers_copy_the_facts_and_never_false_ones() -> None:
    rng = random.Random(8)
    named = 0
    for _ in range(300):
        case = grammar.sample_prompt(rng, "support")
        answer = grammar.sample_answer(case, Quality.GOOD, rng)
        words = answer.replace("!", "").replace(".", "").replace("?", "").split()
        assert all(word in (case.name, case.thing, case.order) for word in words if word.isdigit())
        named += case.thing in words
    assert named > 250


def test_no_answer_both_complies_and_refuses() -> None:
    rng = random.Random(9)
    forms = grammar.LANGUAGES["safety"].answer_forms
    refusals = [form.text for form in forms if form.part == "refusal"]
    agreements = [form.text for form in forms if (form.part, form.option) == ("comply", "yes")]
    for _ in range(1000):
        answer = grammar.sample_answer(grammar.sample_prompt(rng, "safety"), Quality.MIDDLING, rng)
        assert not (any(t in answer for t in refusals) and any(t in answer for t in agreements))
