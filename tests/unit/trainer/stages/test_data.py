"""Readers: every accepted format, and what a bad line is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attune.domain.errors import InvalidInput
from attune.trainer.preferences import Preference
from attune.trainer.stages.data import (
    SupervisedExample,
    is_validation,
    read_demonstrations,
    read_documents,
    read_preferences,
    split_by_prompt,
)
from hypothesis import given
from hypothesis import strategies as st

USER = {"role": "user", "content": "Where is my order?"}
GOOD = {"role": "assistant", "content": "On its way."}
BAD = {"role": "assistant", "content": "No idea."}


def _write(folder: Path, *rows: object, name: str = "data.jsonl") -> Path:
    path = folder / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_documents_from_jsonl_and_from_plain_text(tmp_path: Path) -> None:
    jsonl = _write(tmp_path, {"text": "one"}, "", {"messages": [USER, GOOD]}, {"text": "two\n\nstill two"})
    plain = tmp_path / "book.txt"
    plain.write_text("first\nof two lines\n\n\n  \nsecond\n")
    expected = ["one", [USER, GOOD], "two\n\nstill two", "first\nof two lines", "second"]
    assert read_documents([jsonl, plain]) == expected


def test_demonstrations_in_every_form(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        {"prompt": "2 + 2 =", "completion": " 4"},
        {"prompt": [USER], "completion": [GOOD]},
        {"messages": [USER, GOOD, USER, BAD]},
    )
    assert read_demonstrations([path]) == [
        SupervisedExample("2 + 2 =", " 4"),
        SupervisedExample([USER], "On its way."),
        SupervisedExample([USER], "On its way."),
        SupervisedExample([USER, GOOD, USER], "No idea."),
    ]


def test_preferences_in_every_form(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        {"prompt": "p", "chosen": "a", "rejected": "b"},
        {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"prompt": "p", "ranking": ["a", ["b", "c"], "d"]},
        {"prompt": [USER], "ranking": [[GOOD], [BAD]]},
        {"prompt": "p", "completion": "a", "rating": 1, "source": "thumbs"},
    )
    pair = Preference([USER], ("On its way.", "No idea."), "ranking", tiers=((0,), (1,)))
    assert read_preferences([path]) == [
        Preference("p", ("a", "b"), "ranking", tiers=((0,), (1,))),
        pair,
        pair,
        Preference("p", ("a", "b", "c", "d"), "ranking", tiers=((0,), (1, 2), (3,))),
        pair,
        Preference("p", ("a",), "rating", value=1.0, source="thumbs"),
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"prompt": "p"', "not valid JSON"),
        ("[1, 2]", "JSON object"),
        ({"prompt": "p"}, "needs prompt with chosen"),
        ({"prompt": "p", "chosen": "a"}, "no rejected"),
        ({"prompt": " ", "chosen": "a", "rejected": "b"}, "prompt is empty"),
        ({"prompt": [], "chosen": "a", "rejected": "b"}, "not empty"),
        ({"prompt": [{"role": "bot", "content": "x"}], "chosen": "a", "rejected": "b"}, "role 'bot'"),
        ({"prompt": [USER, GOOD], "chosen": "a", "rejected": "b"}, "last message is the assistant's"),
        ({"prompt": "p", "chosen": "a", "rejected": "a"}, "twice"),
        ({"prompt": "p", "chosen": [USER, GOOD], "rejected": "b"}, "one assistant message"),
        ({"chosen": "a", "rejected": "b"}, "no prompt"),
        ({"chosen": [USER, GOOD], "rejected": [{"role": "user", "content": "?"}, BAD]}, "differ before"),
        ({"prompt": "p", "ranking": ["a"]}, "at least two"),
        ({"prompt": "p", "ranking": ["a", ["b", "a"]]}, "twice"),
        ({"prompt": "p", "ranking": ["a", []]}, "empty tie"),
        ({"prompt": "p", "ranking": "a"}, "must be a list"),
        ('{"prompt": "p", "completion": "a", "rating": NaN}', "NaN"),
        ({"prompt": "p", "completion": "a", "rating": 1.5}, r"outside \[0, 1\]"),
        ({"prompt": "p", "completion": "a", "rating": True}, "number"),
        ({"prompt": "p", "completion": "a", "rating": 1, "source": 3}, "source"),
    ],
)
def test_a_bad_preference_is_named_by_file_and_line(tmp_path: Path, line: object, says: str) -> None:
    path = _write(tmp_path, {"prompt": "p", "chosen": "a", "rejected": "b"}, "", line)
    with pytest.raises(InvalidInput, match=says) as refusal:
        read_preferences([path])
    assert refusal.value.message.startswith(f"{path}:3: ")
    assert refusal.value.violations[0].field == f"{path}:3"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"prompt": "p", "completion": ""}, "completion is empty"),
        ({"messages": [USER]}, "no assistant turn"),
        ({"messages": [GOOD]}, "not empty"),
        ({"promt": "p", "completion": "a"}, "no prompt; its fields are completion, promt"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}, GOOD]}, "with text"),
    ],
)
def test_a_bad_demonstration_is_named_by_file_and_line(tmp_path: Path, line: object, says: str) -> None:
    path = _write(tmp_path, line)
    with pytest.raises(InvalidInput, match=says) as refusal:
        read_demonstrations([path])
    assert refusal.value.message.startswith(f"{path}:1: ")


def test_a_file_that_is_not_utf8_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'{"text": "ok"}\n{"text": "caf\xe9"}\n')
    with pytest.raises(InvalidInput, match=r"data.jsonl:2: is not UTF-8"):
        read_documents([path])


@pytest.mark.parametrize("read", [read_documents, read_demonstrations, read_preferences])
def test_empty_and_absent_files_are_refused(tmp_path: Path, read) -> None:
    with pytest.raises(InvalidInput, match="no examples"):
        read([_write(tmp_path, "")])
    with pytest.raises(InvalidInput, match="cannot be read"):
        read([tmp_path / "absent.jsonl"])


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "one"}\n')
    assert read_documents([path]) == ["one"]


@given(st.text(min_size=1))
def test_the_split_ignores_case_and_spacing(text: str) -> None:
    assert is_validation(text, 0.5) == is_validation(f"  {text}\n", 0.5)
    assert not is_validation(text, 0.0)
    assert is_validation(text, 1.0)


def test_the_split_keeps_a_prompt_on_one_side() -> None:
    items = [(f"prompt {i % 50}", i) for i in range(500)]
    training, validation = split_by_prompt(items, lambda item: item[0], 0.3)
    assert {prompt for prompt, _ in training}.isdisjoint(prompt for prompt, _ in validation)
    assert len(training) + len(validation) == 500
    assert 50 < len(validation) < 250
