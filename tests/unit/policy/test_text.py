"""Text while it grows: whole characters, stop strings cut, nothing taken back."""

from __future__ import annotations

import pytest
from attune.policy.text import GrowingText
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_tokenizer

TOKENIZER = tiny_tokenizer()


def ids(text: str) -> list[int]:
    return TOKENIZER(text)["input_ids"]


@given(st.text(alphabet="aäß€🙂 x", max_size=12))
def test_pieces_join_to_the_whole_and_hold_no_broken_character(text: str) -> None:
    growing = GrowingText(TOKENIZER)
    tokens = ids(text)
    pieces = [growing.add([token], is_last=i == len(tokens) - 1) for i, token in enumerate(tokens)]
    assert "".join(pieces) == growing.text == text
    assert "\ufffd" not in "".join(pieces)


@pytest.mark.parametrize("stop", [("STOP",), ("xx", "STOP"), ("OP",), ("S",)])
def test_a_stop_string_ends_the_text_and_is_never_shown(stop: tuple[str, ...]) -> None:
    growing = GrowingText(TOKENIZER, stop)
    shown = ""
    for token in ids("one two STOP three"):
        shown += growing.add([token])
        if growing.stopped:
            break
    whole = "one two STOP three"
    assert growing.stopped
    assert shown == whole[: min(whole.find(s) for s in stop if s in whole)]
    assert growing.add(ids("more")) == ""


def test_what_only_looked_like_a_stop_string_is_shown_in_the_end() -> None:
    growing = GrowingText(TOKENIZER, ("STOP",))
    first = "".join(growing.add([token]) for token in ids("a ST"))
    assert first == "a "
    assert growing.add(ids("x"), is_last=True) == "STx"


def test_control_tokens_are_left_out() -> None:
    growing = GrowingText(TOKENIZER, ())
    assert growing.add([*ids("fine"), TOKENIZER.eos_token_id], is_last=True) == "fine"
