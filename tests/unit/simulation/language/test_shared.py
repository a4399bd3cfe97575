"""The shared tables name people unmistakably."""

from __future__ import annotations

from attune.simulation.language.shared import INTRODUCTIONS, MANNERS, NAMES
from attune.simulation.language.support import PRODUCTS


def test_names_are_single_words_and_no_products() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 12
    assert all(name.isalpha() for name in NAMES)
    assert not set(NAMES) & set(PRODUCTS)


def test_named_forms_have_the_name_and_plain_ones_no_slot() -> None:
    for form in (*INTRODUCTIONS, *MANNERS):
        assert form.slots == ({"name"} if form.option == "named" else set())
