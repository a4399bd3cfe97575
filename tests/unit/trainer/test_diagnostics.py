"""The figures of a step: health at the first pass, and literal values after it."""

from __future__ import annotations

import math

import pytest
import torch
from attune.trainer.diagnostics import engine_gap, explained_variance, ratio_figures

NAN = float("nan")
MASK = torch.tensor([[True, True, False], [True, False, True]])


def test_the_first_pass_shows_ratio_one_kl_zero_and_nothing_clipped() -> None:
    logprobs = torch.tensor([[-1.0, -2.0, NAN], [-0.5, NAN, -3.0]])
    figures = ratio_figures(logprobs, logprobs.clone(), torch.ones(2, 3), MASK)
    assert figures == {
        "ratio_mean": 1.0,
        "ratio_min": 1.0,
        "ratio_max": 1.0,
        "clip_fraction": 0.0,
        "approx_kl": 0.0,
        "approx_kl_k3": 0.0,
    }


def test_ratio_figures_equal_the_literal_ones() -> None:
    logr = torch.tensor([[math.log(1.5), math.log(1.5), NAN], [math.log(0.5), NAN, math.log(1.1)]])
    advantages = torch.tensor([[1.0, -1.0, NAN], [-1.0, NAN, 1.0]])
    figures = ratio_figures(logr, torch.zeros(2, 3), advantages, MASK)
    ratios = [1.5, 1.5, 0.5, 1.1]
    assert figures["ratio_mean"] == pytest.approx(sum(ratios) / 4)
    assert figures["ratio_min"] == pytest.approx(0.5)
    assert figures["ratio_max"] == pytest.approx(1.5)
    assert figures["clip_fraction"] == pytest.approx(0.5)  # (1.5, +1) and (0.5, -1) are held by the clip
    assert figures["approx_kl"] == pytest.approx(sum(0.5 * math.log(r) ** 2 for r in ratios) / 4)
    # k3 for samples of the old policy: with ell = -log r, exp(-ell) - 1 + ell = r - 1 - log r
    assert figures["approx_kl_k3"] == pytest.approx(sum(r - 1 - math.log(r) for r in ratios) / 4)


def test_engine_gap_equals_the_literal_figures() -> None:
    old = torch.tensor([[-1.0, -2.0, NAN], [-0.5, NAN, -3.0]])
    engine = torch.tensor([[-1.1, -2.0, 5.0], [-0.2, 5.0, -4.0]])
    gaps = [0.1, 0.0, -0.3, 1.0]
    figures = engine_gap(old, engine, MASK, cap=2.0)
    assert figures["mean_exp_abs"] == pytest.approx(sum(math.exp(abs(g)) for g in gaps) / 4, rel=1e-5)
    assert figures["max_abs"] == pytest.approx(1.0)
    assert figures["sampled_kl"] == pytest.approx(-sum(gaps) / 4, rel=1e-5)
    assert figures["capped_fraction"] == pytest.approx(0.25)


def test_an_engine_that_agrees_has_no_gap() -> None:
    logprobs = -torch.rand(2, 3)
    assert engine_gap(logprobs, logprobs, MASK, cap=2.0) == {
        "mean_exp_abs": 1.0,
        "max_abs": 0.0,
        "sampled_kl": 0.0,
        "capped_fraction": 0.0,
    }


def test_explained_variance_of_a_perfect_a_constant_and_a_wrong_critic() -> None:
    returns = torch.tensor([[1.0, 2.0, NAN], [3.0, NAN, 4.0]])
    assert explained_variance(returns, returns, MASK) == 1.0
    assert explained_variance(torch.full((2, 3), 9.0), returns, MASK) == pytest.approx(0.0)
    assert explained_variance(-returns, returns, MASK) == pytest.approx(1 - 4.0)
    assert explained_variance(returns, torch.ones(2, 3), MASK) == 0.0


def test_an_empty_mask_has_neutral_figures() -> None:
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    x = torch.full((2, 3), NAN)
    assert ratio_figures(x, x, x, nothing)["ratio_max"] == 1.0
    assert engine_gap(x, x, nothing, cap=2.0)["max_abs"] == 0.0
