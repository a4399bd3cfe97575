"""JSON as it comes: strict, and whatever comes, an error of the sender and never another."""

from __future__ import annotations

import pytest
from attune.domain.errors import InvalidInput
from attune.platform.web.bodies import read_json
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff",
        b"NaN",
        b'{"a": Infinity}',
        b'{"a": 1, "a": 2}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 10_000,
        b"\xef\xbb\xbf{}",
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'["\\ud83d!"]',
    ],
    ids=range(13),
)
def test_a_body_that_is_no_json_is_the_senders_fault(raw: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_json(raw)


@given(st.binary())
def test_any_bytes_are_json_or_the_senders_fault(raw: bytes) -> None:
    try:
        read_json(raw)
    except InvalidInput as error:
        assert error.message  # noqa: PT017 - both ends are right


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert read_json(b'{"a": "\\ud83d\\ude00"}') == {"a": "\N{GRINNING FACE}"}
