"""Gates: exact probabilities by hand, what passes, what does not, and how often chance gets through."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from attune.trainer.gates import (
    CHANCE_ALPHA,
    GateVerdict,
    finite,
    kl_ceiling,
    reward_gate,
    sign_test,
    win_rate_gate,
)
from attune.trainer.likelihood import ordering_accuracy


def test_sign_test_by_hand() -> None:
    # Of 5: 4 or 5 heads is (5 + 1) / 32.
    assert sign_test(4, 1) == pytest.approx(6 / 32)
    assert sign_test(5, 0) == pytest.approx(1 / 32)
    assert sign_test(0, 5) == 1.0
    assert sign_test(0, 0) == 1.0


@pytest.mark.parametrize("more", range(8))
def test_sign_test_equals_the_count_over_all_outcomes(more: int) -> None:
    outcomes = list(itertools.product([0, 1], repeat=7))
    assert sign_test(more, 7 - more) == sum(sum(o) >= more for o in outcomes) / len(outcomes)


def test_sign_test_bears_great_numbers() -> None:
    assert sign_test(5000, 5000) == pytest.approx(0.5, abs=0.01)
    assert 0 < sign_test(5300, 4700) < 1e-8


# Win rate


def test_a_policy_is_rejected_only_when_significantly_below_one_half() -> None:
    # 17 of 50 or fewer has probability 0.0164; 20 or fewer 0.1013.
    rejected, passed = win_rate_gate(17, 0, 33), win_rate_gate(20, 0, 30)
    assert not rejected.passed
    assert "win rate 0.340" in rejected.reasons[0]
    assert rejected.figures["win_rate_p"] == pytest.approx(0.0164, abs=1e-4)
    assert passed.passed
    assert passed.reasons == ()
    assert passed.figures["win_rate_p"] == pytest.approx(0.1013, abs=1e-4)


def test_ties_count_half_in_the_rate_and_nothing_in_the_test() -> None:
    few, many = win_rate_gate(17, 0, 33), win_rate_gate(17, 950, 33)
    assert many.figures["win_rate"] == pytest.approx((17 + 475) / 1000)
    assert many.figures["win_rate_p"] == few.figures["win_rate_p"]
    assert win_rate_gate(0, 40, 0).passed


def test_a_policy_that_was_compared_with_nothing_is_rejected() -> None:
    verdict = win_rate_gate(0, 0, 0)
    assert not verdict.passed
    assert "no completions" in verdict.reasons[0]


def test_equal_policies_are_rejected_no_more_often_than_alpha() -> None:
    n = 60
    rejected = sum(math.comb(n, wins) for wins in range(n + 1) if not win_rate_gate(wins, 0, n - wins, 0.05).passed)
    assert 0.01 < rejected / 2**n <= 0.05


# Reward model


def test_a_first_reward_model_must_be_better_than_chance() -> None:
    good = reward_gate([1.0] * 45 + [0.0] * 15, None)
    assert good.passed
    assert good.figures["reward_accuracy"] == 0.75
    weak = reward_gate([1.0] * 35 + [0.0] * 25, None)
    assert not weak.passed
    assert "not above chance" in weak.reasons[0]
    assert not reward_gate([], None).passed


def test_thirteen_right_events_are_not_enough_and_fourteen_are() -> None:
    assert not reward_gate([1.0] * 13, None).passed
    assert reward_gate([1.0] * 14, None).passed


def test_half_right_events_are_no_evidence() -> None:
    assert not reward_gate([0.5] * 1000, None).passed


def test_a_child_significantly_worse_than_its_parent_is_rejected() -> None:
    parent = [1.0] * 100
    slightly = reward_gate([0.0] * 4 + [1.0] * 96, parent)  # four changed for the worse: p = 1/16
    clearly = reward_gate([0.0] * 5 + [1.0] * 95, parent)  # five: p = 1/32
    assert slightly.passed
    assert slightly.figures["reward_parent_p"] == pytest.approx(1 / 16)
    assert slightly.figures["reward_gain"] == pytest.approx(-0.04)
    assert not clearly.passed
    assert "parent" in clearly.reasons[0]


def test_a_better_child_passes_and_a_poor_parent_does_not_excuse_chance() -> None:
    assert reward_gate([1.0] * 80 + [0.0] * 20, [1.0] * 60 + [0.0] * 40).passed
    assert not reward_gate([1.0] * 50 + [0.0] * 50, [0.0] * 100).passed


def test_unpaired_and_senseless_outcomes_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        reward_gate([1.0, 1.0], [1.0])
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        reward_gate([float("nan")], None)


@pytest.mark.parametrize("n", [20, 57, 200])
def test_a_guessing_reward_model_passes_no_more_often_than_chance_alpha(n: int) -> None:
    let_through = sum(math.comb(n, k) for k in range(n + 1) if reward_gate([1.0] * k + [0.0] * (n - k), None).passed)
    assert let_through / 2**n <= CHANCE_ALPHA


@pytest.mark.parametrize("seed", range(3))
def test_shuffled_rankings_promote_no_reward_model_in_many_overlapping_looks(seed: int) -> None:
    chance, held_out = random.Random(seed), []
    for _look in range(60):
        held_out += [tuple((i,) for i in chance.sample(range(4), chance.choice([2, 3, 4]))) for _ in range(10)]
        scores = [[chance.gauss(0, 1) for _ in range(4)] for _ in held_out]
        correct = [ordering_accuracy(s, levels) for s, levels in zip(scores, held_out, strict=True)]
        assert not reward_gate([c for c in correct if c is not None], None).passed


# KL, finiteness, and several gates at once


def test_kl_ceiling() -> None:
    assert kl_ceiling(4.9, 5.0).passed
    assert kl_ceiling(5.0, 5.0).passed
    assert not kl_ceiling(5.1, 5.0).passed
    assert not kl_ceiling(float("nan"), 5.0).passed


def test_finite_names_what_is_not() -> None:
    verdict = finite({"loss": 1.0, "kl": float("nan"), "grad_norm": float("inf")})
    assert not verdict.passed
    assert verdict.reasons == ("kl is nan", "grad_norm is inf")
    assert finite({"loss": 1.0}).passed


def test_gates_together_keep_every_reason_and_figure() -> None:
    verdict = kl_ceiling(9.0, 5.0) & win_rate_gate(30, 0, 10) & finite({"loss": float("nan")})
    assert not verdict.passed
    assert len(verdict.reasons) == 2
    assert {"kl", "win_rate", "loss"} <= set(verdict.figures)
    assert GateVerdict(True) & GateVerdict(True) == GateVerdict(True)
