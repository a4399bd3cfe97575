"""Every intent and mood of customer support can be asked about and answered well."""

from __future__ import annotations

from attune.simulation.language.forms import Quality
from attune.simulation.language.support import SUPPORT

FORMS = (*SUPPORT.prompt_forms, *SUPPORT.answer_forms)


def test_every_topic_has_things_and_several_variants_of_each_part() -> None:
    for topic, things in SUPPORT.things.items():
        assert len(set(things)) == len(things) >= 10
        for part in ("request", "product", "action"):
            assert sum(form.part == part and form.topic == topic for form in FORMS) >= 2, (topic, part)


def test_every_choice_of_a_profile_can_be_said() -> None:
    assert set(SUPPORT.answer_profiles) == set(Quality)
    for profile in (SUPPORT.prompt_profile, *SUPPORT.answer_profiles.values()):
        for part, weights in profile:
            for choice in weights:
                assert choice is None or any((f.part, f.option) == (part, choice.option) for f in FORMS), (part, choice)


def test_no_sentence_of_an_answer_means_two_things() -> None:
    texts = [form.text.casefold() for form in SUPPORT.answer_forms]
    assert len(set(texts)) == len(texts)


def test_every_mood_has_an_answer() -> None:
    assert {form.topic for form in SUPPORT.answer_forms if form.part == "empathy"} == set(SUPPORT.moods)
