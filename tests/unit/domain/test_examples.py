"""Examples: round trips, and the text of a named completion."""

from __future__ import annotations

import pytest
from attune.domain.examples import Example
from hypothesis import given
from unit.domain.made import examples


@given(examples())
def test_an_example_comes_back_whole(example: Example) -> None:
    assert Example.from_proto(example.to_proto()) == example


@given(examples())
def test_text_of(example: Example) -> None:
    for completion in example.completions:
        assert example.text_of(completion.id) == completion.text
    with pytest.raises(KeyError):
        example.text_of("elsewhere/0")
