"""Every kind of harm can be asked for, complied with, and refused with a reason and an alternative."""

from __future__ import annotations

from attune.simulation.language.forms import Quality
from attune.simulation.language.safety import SAFETY

FORMS = (*SAFETY.prompt_forms, *SAFETY.answer_forms)


def test_every_topic_has_things_and_several_variants_of_each_part() -> None:
    for topic, things in SAFETY.things.items():
        assert len(set(things)) == len(things) >= 10
        for part in ("request", "comply", "reason", "instead"):
            assert sum(form.part == part and form.topic == topic for form in FORMS) >= 2, (topic, part)


def test_every_choice_of_a_profile_can_be_said() -> None:
    assert set(SAFETY.answer_profiles) == set(Quality)
    for profile in (SAFETY.prompt_profile, *SAFETY.answer_profiles.values()):
        for part, weights in profile:
            for choice in weights:
                assert choice is None or any((f.part, f.option) == (part, choice.option) for f in FORMS), (part, choice)


def test_no_sentence_of_an_answer_means_two_things() -> None:
    texts = [form.text.casefold() for form in SAFETY.answer_forms]
    assert len(set(texts)) == len(texts)


def test_who_complies_does_not_refuse() -> None:
    assert "refusal" in SAFETY.rivals["comply"]
    assert "comply" in SAFETY.rivals["refusal"]
