"""Forms fill, recognise what they filled, and refuse what is not one sentence."""

from __future__ import annotations

import random

import pytest
from attune.simulation.language.forms import Form, Say, draw, forms, normal_form, sentences


def test_form_recognises_what_it_fills() -> None:
    form = Form("product", "named", "late", "Your {thing} from order {order} is late.")

    sentence = form.fill({"thing": "blue Velora", "order": "123"})
    match = form.pattern().fullmatch(normal_form(sentence))

    assert sentence == "Your blue Velora from order 123 is late."
    assert match is not None
    assert match.groupdict() == {"thing": "blue velora", "order": "123"}


def test_slot_texts_narrow_what_a_pattern_takes() -> None:
    pattern = Form("intro", "named", "", "I am {name}.").pattern({"name": "mia|tom"})

    assert pattern.fullmatch("i am tom.")
    assert not pattern.fullmatch("i am late.")


@pytest.mark.parametrize("text", ["", "No stop", "Two. Sentences.", "."])
def test_form_is_exactly_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="one sentence"):
        Form("greeting", "plain", "", text)


def test_variants_are_ranked_in_their_order() -> None:
    assert [form.rank for form in forms("greeting", "plain", "", "Hi.", "Hello.")] == [0, 1]


def test_missing_fact_is_an_error() -> None:
    with pytest.raises(KeyError):
        Form("greeting", "named", "", "Hi {name}!").fill({})


def test_sentences_keep_their_punctuation_and_the_cut_off_end() -> None:
    assert sentences("Hi  Mia! How are\nyou? I am") == ["hi mia!", "how are you?", "i am"]
    assert sentences(" ?!.. ") == []


def test_draw_follows_the_weights() -> None:
    rng = random.Random(3)
    weights = {None: 3, Say("named"): 1}

    silent = sum(draw(weights, rng) is None for _ in range(4000))

    assert 0.70 < silent / 4000 < 0.80
