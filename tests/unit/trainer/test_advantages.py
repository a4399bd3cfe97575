"""Advantages against numbers worked by hand, against slow literal versions, and against the facts they rest on."""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest
import torch
from attune.trainer import ppo
from attune.trainer.advantages import (
    DEVIATION_EPS,
    Generalised,
    GroupRelative,
    LeaveOneOut,
    Measured,
    estimator_of,
    group_numbers,
    group_relative,
    leave_one_out,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

SCORES, GROUPS = [1.0, 5.0, 2.0, 3.0, 7.0, 6.0], [0, 1, 0, 0, 1, 0]
"""Two prompts whose responses stand mixed: 1, 2, 3, 6 and 5, 7."""

rows_of_groups = st.lists(
    st.tuples(st.integers(0, 3), st.integers(-20, 20).map(lambda x: x / 2)), min_size=1, max_size=20
)
"""Groups and scores; halves, so that a deviation is 0 or far above its eps."""


def measured(seed: int = 0, values: bool = True) -> Measured:
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(6, 5, generator=g) < 0.7
    mask[:, 0] = True
    logprobs, ref_logprobs, critic = (torch.randn(6, 5, generator=g) for _ in range(3))
    return Measured(
        torch.tensor(SCORES), torch.tensor(GROUPS), mask, logprobs, ref_logprobs, critic if values else None
    )


def literal_group_relative(scores: list[float], groups: list[int]) -> list[float]:
    found = []
    for score, group in zip(scores, groups, strict=True):
        own = [s for s, g in zip(scores, groups, strict=True) if g == group]
        deviation = statistics.stdev(own) if len(own) > 1 else 0.0
        found.append((score - statistics.fmean(own)) / (deviation + DEVIATION_EPS))
    return found


def literal_leave_one_out(rewards: list[float], groups: list[int]) -> list[float]:
    found = []
    for i, reward in enumerate(rewards):
        others = [r for j, r in enumerate(rewards) if j != i and groups[j] == groups[i]]
        found.append(reward - statistics.fmean(others) if others else 0.0)
    return found


def near(tensor: Tensor, expected: list[float], tolerance: float = 1e-4) -> bool:
    return torch.allclose(tensor, torch.tensor(expected), atol=tolerance, rtol=1e-4)


# Golden values


def test_group_relative_golden_values() -> None:
    # 1, 2, 3, 6: mean 3, deviation sqrt((4 + 1 + 0 + 9) / 3) = 2.160247; 5, 7: mean 6, deviation sqrt(2)
    expected = [-0.925777, -0.707057, -0.462889, 0.0, 0.707057, 1.388666]
    assert near(group_relative(torch.tensor(SCORES), torch.tensor(GROUPS)), expected, 1e-6)


def test_leave_one_out_golden_values() -> None:
    # 1 - (2 + 3 + 6) / 3; 5 - 7; 2 - (1 + 3 + 6) / 3; 3 - (1 + 2 + 6) / 3; 7 - 5; 6 - (1 + 2 + 3) / 3
    expected = [-8 / 3, -2.0, -4 / 3, 0.0, 2.0, 4.0]
    assert near(leave_one_out(torch.tensor(SCORES), torch.tensor(GROUPS)), expected, 1e-6)


# Slow literal versions


@given(rows_of_groups)
def test_group_relative_equals_the_literal_version(rows: list[tuple[int, float]]) -> None:
    groups, scores = [g for g, _ in rows], [s for _, s in rows]
    assert near(group_relative(torch.tensor(scores), torch.tensor(groups)), literal_group_relative(scores, groups))


@given(rows_of_groups)
def test_leave_one_out_equals_the_literal_version(rows: list[tuple[int, float]]) -> None:
    groups, scores = [g for g, _ in rows], [s for _, s in rows]
    assert near(leave_one_out(torch.tensor(scores), torch.tensor(groups)), literal_leave_one_out(scores, groups))


# Facts


def test_groups_are_numbered_by_their_prompt() -> None:
    assert group_numbers([(1, 2), (3,), (1, 2), (), (3,)]) == [0, 1, 0, 2, 1]


def test_a_response_alone_and_responses_all_alike_teach_nothing() -> None:
    scores, groups = torch.tensor([4.0, 2.0, 2.0, 2.0]), torch.tensor([0, 1, 1, 1])
    for estimate in (group_relative, leave_one_out):
        assert torch.equal(estimate(scores, groups), torch.zeros(4))


def test_an_unbiased_baseline_does_not_know_the_response_it_judges() -> None:
    raised = torch.tensor([2.0, *SCORES[1:]])
    change = leave_one_out(raised, torch.tensor(GROUPS)) - leave_one_out(torch.tensor(SCORES), torch.tensor(GROUPS))
    assert change[0].item() == pytest.approx(1.0)


@pytest.mark.parametrize("algorithm", ["ppo", "grpo", "rloo"])
def test_what_stands_outside_the_mask_changes_nothing(algorithm: str) -> None:
    batch, estimate = measured(), estimator_of(algorithm, 1.0, 0.95)
    assert batch.values is not None
    dirty = replace(
        batch,
        logprobs=batch.logprobs.masked_fill(~batch.mask, float("nan")),
        ref_logprobs=batch.ref_logprobs.masked_fill(~batch.mask, float("inf")),
        values=batch.values.masked_fill(~batch.mask, float("nan")),
    )
    clean, returns = estimate(batch, 0.1)
    again, dirty_returns = estimate(dirty, 0.1)
    assert torch.equal(clean, again)
    assert torch.all(clean[~batch.mask] == 0)
    assert estimate.has_critic == (returns is not None)
    assert returns is None or torch.equal(returns, dirty_returns)


def test_ppo_shapes_estimates_and_whitens() -> None:
    batch = measured()
    assert batch.values is not None
    rewards = ppo.shaped_rewards(batch.scores, batch.logprobs, batch.ref_logprobs, batch.mask, 0.1)
    advantages, returns = ppo.gae(rewards, batch.values, batch.mask, 0.9, 0.8)
    found, found_returns = Generalised(0.9, 0.8)(batch, 0.1)
    assert torch.equal(found, ppo.whiten(advantages, batch.mask))
    assert torch.equal(found_returns, returns)


def test_ppo_needs_a_critic() -> None:
    with pytest.raises(ValueError, match="critic"):
        Generalised()(measured(values=False), 0.1)


def test_every_token_has_the_advantage_of_its_response() -> None:
    batch = measured(values=False)
    found, _ = GroupRelative()(batch, beta=0.1)
    for row, expected in enumerate(group_relative(batch.scores, batch.groups)):
        assert torch.all(found[row][batch.mask[row]] == expected)


def test_rloo_takes_the_kl_of_the_response_from_its_score() -> None:
    batch = measured(values=False)
    found, _ = LeaveOneOut()(batch, beta=0.5)
    kl = [
        sum((batch.logprobs[i, t] - batch.ref_logprobs[i, t]).item() for t in range(5) if batch.mask[i, t])
        for i in range(6)
    ]
    expected = literal_leave_one_out([s - 0.5 * k for s, k in zip(SCORES, kl, strict=True)], GROUPS)
    assert near(found[:, 0], expected)
