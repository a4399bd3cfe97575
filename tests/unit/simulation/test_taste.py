"""Judges from files are held to their promise; standardising gives any judge one scale."""

from __future__ import annotations

import math
import random
import statistics
from pathlib import Path

import pytest
from attune.simulation import grammar
from attune.simulation.taste import BadJudge, Standardised, checked, load_judge

EXAMPLES = Path(__file__).parents[3] / "deploy" / "judges"


def test_judge_is_loaded_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def like(prompt, completion):\n    return len(completion) - len(prompt)\n")

    assert load_judge(f"{file}:like")("ab", "abcde") == 3.0


@pytest.mark.parametrize(
    ("text", "where", "complaint"),
    [
        ("", "{file}", "FILE.py:FUNCTION"),
        ("", "{file}:", "FILE.py:FUNCTION"),
        ("", "nowhere.py:judge", "no file nowhere.py"),
        ("", "{file}:judge", "no function judge"),
        ("judge = 3", "{file}:judge", "no function judge"),
        ("def judge(:", "{file}:judge", "does not load"),
        ("import no_such_module_here", "{file}:judge", "does not load"),
    ],
)
def test_what_is_no_judge_is_refused_by_name(tmp_path: Path, text: str, where: str, complaint: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text)

    with pytest.raises(BadJudge, match=complaint):
        load_judge(where.format(file=file))


def test_file_that_is_no_python_is_refused(tmp_path: Path) -> None:
    (tmp_path / "judge.txt").write_text("")
    with pytest.raises(BadJudge, match=r"must end in \.py"):
        load_judge(f"{tmp_path / 'judge.txt'}:judge")


@pytest.mark.parametrize("result", [None, "3", math.nan, math.inf, [1.0]])
def test_result_that_is_no_finite_number_is_refused(result: object) -> None:
    with pytest.raises(BadJudge, match="finite number"):
        checked(lambda p, c: result, "mine.py:judge")("p", "c")


def test_standardised_scores_have_mean_zero_and_std_one() -> None:
    answers = [("p", "x" * n) for n in (1, 2, 3, 10)]
    judge = Standardised.over(lambda p, c: float(len(c)), answers)
    scores = [judge(*pair) for pair in answers]

    assert statistics.fmean(scores) == pytest.approx(0.0)
    assert statistics.pstdev(scores) == pytest.approx(1.0)
    assert judge.median == 2.5
    assert judge.standardised_median == pytest.approx((2.5 - 4.0) / judge.std)


def test_judge_that_likes_all_alike_stays_finite() -> None:
    judge = Standardised.over(lambda p, c: 7.0, [("p", "a"), ("p", "b")])
    assert judge("p", "c") == 0.0
    assert judge.std > 0


def test_no_answers_no_scale() -> None:
    with pytest.raises(ValueError, match="at least one answer"):
        Standardised.over(lambda p, c: 0.0, [])


@pytest.mark.parametrize("name", ["brevity", "opening", "forbidden_word"])
def test_example_judge_is_graded_on_demonstrations(name: str) -> None:
    judge = load_judge(f"{EXAMPLES / name}.py:judge")
    rows = list(grammar.demonstrations(random.Random(1), 400))
    scores = [judge(row["prompt"], row["completion"]) for row in rows]

    assert statistics.pstdev(scores) > 0.3
    assert len(set(scores)) > 60
    assert judge("prompt", "") < min(scores)
