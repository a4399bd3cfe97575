"""Every topic of small talk can be opened, commented and asked back about, in every mood."""

from __future__ import annotations

from attune.simulation.language.forms import Quality
from attune.simulation.language.small_talk import SMALL_TALK

FORMS = (*SMALL_TALK.prompt_forms, *SMALL_TALK.answer_forms)


def test_every_topic_has_things_and_several_variants_of_each_part() -> None:
    for topic, things in SMALL_TALK.things.items():
        assert len(set(things)) == len(things) >= 10
        for part in ("request", "comment", "question"):
            assert sum(form.part == part and form.topic == topic for form in FORMS) >= 2, (topic, part)


def test_every_choice_of_a_profile_can_be_said() -> None:
    assert set(SMALL_TALK.answer_profiles) == set(Quality)
    for profile in (SMALL_TALK.prompt_profile, *SMALL_TALK.answer_profiles.values()):
        for part, weights in profile:
            for choice in weights:
                assert choice is None or any((f.part, f.option) == (part, choice.option) for f in FORMS), (part, choice)


def test_no_sentence_of_an_answer_means_two_things() -> None:
    texts = [form.text.casefold() for form in SMALL_TALK.answer_forms]
    assert len(set(texts)) == len(texts)


def test_every_mood_has_an_answer() -> None:
    assert {form.topic for form in SMALL_TALK.answer_forms if form.part == "warmth"} == set(SMALL_TALK.moods)
