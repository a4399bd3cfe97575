"""Identifiers: version 7, sorted by age, one spelling, and completion ids that follow from generations."""

from __future__ import annotations

import uuid

import pytest
from attune.domain.errors import InvalidInput
from attune.domain.ids import (
    canonical_uuid,
    completion_id,
    is_canonical_completion_id,
    parse_completion_id,
    uuid7,
    uuid_bytes,
)
from hypothesis import given
from hypothesis import strategies as st

CANONICAL = "01890a5d-ac96-774b-bcce-b302099a8057"


@given(st.floats(0, 2**47 / 1000))
def test_version_and_time(now_s: float) -> None:
    made = uuid.UUID(uuid7(now_s))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == int(now_s * 1000)


def test_ids_differ_and_sort_by_age() -> None:
    assert len({uuid7(5.0) for _ in range(1000)}) == 1000
    assert uuid7(1.0) < uuid7(2.0) < uuid7(3_000_000.0)


@given(st.uuids(), st.integers(0, 63))
def test_completion_ids_go_there_and_back(generation: uuid.UUID, index: int) -> None:
    text = completion_id(str(generation), index)
    assert parse_completion_id(text, "id") == (str(generation), index)
    assert parse_completion_id(text.upper(), "id") == (str(generation), index)


ONE = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.mark.parametrize("text", ["", "x", "x/0", "/0", ONE, f"{ONE}/64", f"{ONE}/-1", f"{ONE}/²", f"{ONE}/007"])
def test_bad_completion_ids_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_completion_id(text, "id")


def test_one_spelling() -> None:
    plain = "01890a5d-ac96-774b-bcce-b302099a8057"
    for spelt in (plain.upper(), plain.replace("-", ""), "{" + plain + "}"):
        assert canonical_uuid(spelt, "id") == plain
    assert len(uuid_bytes(plain)) == 16
    with pytest.raises(InvalidInput):
        canonical_uuid("seven", "id")


@pytest.mark.parametrize("index", range(120))
def test_the_pattern_of_completion_ids_is_that_of_their_parser(index: int) -> None:
    for text in (f"{CANONICAL}/{index}", f"{CANONICAL}/{index:03d}"):
        try:
            is_same = completion_id(*parse_completion_id(text, "x")) == text
        except InvalidInput:
            is_same = False
        assert bool(is_canonical_completion_id(text)) is is_same
