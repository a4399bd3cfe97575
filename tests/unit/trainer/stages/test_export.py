"""Examples as training lines: every row is read back by the stage, and says what the person said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attune.domain.examples import Example, ExampleCompletion
from attune.domain.feedback import Comparison, Demonstration, Feedback, FeedbackEvent, Ranking, Rating
from attune.domain.ids import uuid7
from attune.domain.prompts import Prompt
from attune.trainer.preferences import from_example
from attune.trainer.stages.data import read_preferences
from attune.trainer.stages.export import preference_row

G = uuid7()
A, B, C = (f"{G}/{i}" for i in range(3))


def example(feedback: Feedback, **texts: str) -> Example:
    named = {A: "fine", B: "bad", C: "worse"} | {{"a": A, "b": B, "c": C}[k]: v for k, v in texts.items()}
    completions = tuple(ExampleCompletion(c, named[c], "policies/a/revisions/1") for c in feedback.completion_ids)
    event = FeedbackEvent(uuid7(), "app", "ada", feedback, "web")
    return Example(1, Prompt.user("hello"), completions, event, 1.0, 1.0)


@pytest.mark.parametrize(
    "feedback",
    [
        Rating(A, 0.25),
        Comparison(B, A),
        Ranking(((C,), (A,), (B,))),
        Ranking(((C,), (A, B))),
        Demonstration(B, "it should have been this"),
    ],
    ids=lambda feedback: feedback.kind,
)
def test_the_stage_reads_what_the_person_said(feedback: Feedback, tmp_path: Path) -> None:
    asked = example(feedback)
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(preference_row(asked)) + "\n")
    (read,) = read_preferences([path])
    expected = from_example(asked)
    ordered = {(p.texts[a], p.texts[b]) for p in [read] for a, b in p.ordered_pairs()}
    assert ordered == {(expected.texts[a], expected.texts[b]) for a, b in expected.ordered_pairs()}
    assert (read.value, read.prompt) == (expected.value, expected.prompt)


def test_what_prefers_nothing_gives_no_row() -> None:
    assert preference_row(example(Ranking(((A, B),)))) is None
    assert preference_row(example(Comparison(A, B), a="same", b="same")) is None


def test_a_text_that_stands_twice_is_not_ranked_against_itself() -> None:
    row = preference_row(example(Ranking(((A,), (B,), (C,))), b="fine"))
    assert row == {"prompt": [{"role": "user", "content": "hello"}], "chosen": "fine", "rejected": "worse"}
