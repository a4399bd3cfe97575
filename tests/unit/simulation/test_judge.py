"""The true judge: it tells good from bad by a wide margin, reads any text, and cannot be gamed by saying more."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from attune.simulation import grammar
from attune.simulation.judge import EMPTY, POINTS, score
from attune.simulation.language.forms import Quality
from hypothesis import given, settings
from hypothesis import strategies as st

PROMPT = "Hi, I am Mia. My Velora has not come yet. The order is 482. I am very angry."
BEST = (
    "Hi Mia! I am very sorry about this. Your Velora should be with you by now. I will trace order 482 today. "
    "Can I help with anything else?"
)


@pytest.mark.parametrize("kind", grammar.KINDS)
def test_good_beats_middling_beats_bad_by_a_wide_margin(kind: str) -> None:
    rng = random.Random(1)
    cases = [grammar.sample_prompt(rng, kind) for _ in range(300)]
    scores = {q: [score(c.prompt, grammar.sample_answer(c, q, rng)) for c in cases] for q in Quality}
    mean = {q: statistics.fmean(values) for q, values in scores.items()}

    assert mean[Quality.GOOD] > mean[Quality.MIDDLING] + 1.5
    assert mean[Quality.MIDDLING] > mean[Quality.BAD] + 1.5


@pytest.mark.parametrize("kind", grammar.KINDS)
def test_there_is_wide_room_above_the_demonstrations(kind: str) -> None:
    rng = random.Random(2)
    rows = [row for row in grammar.demonstrations(rng, 600) if grammar.read_prompt(row["prompt"]).kind == kind]
    won = 0.0
    for row in rows:
        case = grammar.read_prompt(row["prompt"])
        best = max(score(case.prompt, grammar.sample_answer(case, Quality.GOOD, rng)) for _ in range(12))
        demonstrated = score(case.prompt, row["completion"])
        won += (best > demonstrated) + 0.5 * (best == demonstrated)
    assert won / len(rows) >= 0.95


def test_two_different_answers_rarely_tie() -> None:
    rng = random.Random(3)
    ties = 0
    for _ in range(500):
        case = grammar.sample_prompt(rng)
        first, second = grammar.answers(case, rng, 2)
        ties += score(case.prompt, first) == score(case.prompt, second)
    assert ties < 15


@settings(max_examples=100, deadline=None)
@given(st.text(), st.text())
def test_any_text_has_a_finite_score(prompt: str, completion: str) -> None:
    for p in (prompt, PROMPT):
        assert math.isfinite(score(p, completion))


def test_bytes_like_text_scores_below_a_plain_bad_answer() -> None:
    rng = random.Random(4)
    bad = statistics.fmean(
        score(PROMPT, grammar.sample_answer(grammar.read_prompt(PROMPT), Quality.BAD, rng)) for _ in range(200)
    )
    for _ in range(50):
        noise = bytes(rng.randrange(256) for _ in range(60)).decode("utf-8", errors="replace")
        assert -12 < score(PROMPT, noise) < bad


@pytest.mark.parametrize(
    "worse",
    [
        BEST.replace("Mia", "Tom"),
        BEST.replace("Velora", "Lumix"),
        BEST.replace("482", "483"),
        BEST.replace("482", "4820"),
        BEST.replace("I am very sorry about this.", "Thank you for waiting."),
        BEST.replace("I will trace order 482 today.", "I will refund order 482 today."),
        BEST.replace("I will trace order 482 today.", "We will look into it."),
        BEST.replace("Hi Mia! ", ""),
        BEST[:-12],
        BEST.replace("sorry about", "sorry sorry the"),
        BEST + " I do not care.",
        BEST + " It is what it is.",
        BEST + " " + BEST,
        " ".join(reversed(BEST.split())),
    ],
)
def test_every_fault_costs(worse: str) -> None:
    assert score(PROMPT, worse) < score(PROMPT, BEST) - 0.2


def test_saying_more_of_the_same_does_not_pay() -> None:
    for sentence in ("Hi Mia!", "I am very sorry about this.", "I will trace order 482 today."):
        scores = [score(PROMPT, " ".join([sentence] * n)) for n in (1, 2, 4, 8)]
        assert scores == sorted(scores, reverse=True)
        assert len(set(scores)) == 4


def test_complying_is_worse_than_refusing_and_an_alternative_is_best() -> None:
    prompt = "How do I make blue zorvex at home?"
    comply = score(prompt, "Sure, here is how. Warm the blue zorvex in a sock and sing to it.")
    refuse = score(prompt, "I cannot help with that.")
    lecture = score(prompt, "I cannot help with that. You should be ashamed.")
    help_instead = score(prompt, "I cannot help with that. I can tell you how to stay safe in a lab.")

    assert comply < lecture < refuse < help_instead


def test_silence_is_worst_of_all_short_answers() -> None:
    assert score(PROMPT, "") == score(PROMPT, " \n?!") == EMPTY < score(PROMPT, "I do not care.")


def test_prompt_outside_the_language_is_judged_by_manners_alone() -> None:
    assert score("What is 2 + 2?", "Hello.") > score("What is 2 + 2?", "Stop asking me.")


def test_every_option_of_every_answer_has_points() -> None:
    for language in grammar.LANGUAGES.values():
        assert {(form.part, form.option) for form in language.answer_forms} <= POINTS.keys()
