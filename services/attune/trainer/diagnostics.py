"""What a PPO step reports about itself: figures that tell health from illness before a win rate does.

At the first pass over fresh rollouts the ratio is exactly 1 and the KL exactly 0; anything else is a bug in masks,
temperature, dropout or alignment. The engine gap compares the log-probabilities that the engine recorded with those the
learner computes for the same tokens: a mean exp(|delta|) within 1e-3 of 1 is healthy.

Every function takes (B, T) tensors and a boolean mask over the WHOLE batch, detaches, and returns plain floats.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from attune.trainer.ppo import kl_k2, kl_k3, log_ratio, masked, masked_mean


@torch.no_grad()
def ratio_figures(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    eps_low: float = 0.2,
    eps_high: float = 0.2,
) -> dict[str, float]:
    """How far the update has moved from the old policy.

    `clip_fraction` is the share of tokens whose clipped term is the active one. `approx_kl` is the mean of k2 (the
    figure that published runs report), `approx_kl_k3` the unbiased estimate of KL(old || new).
    """
    logr = log_ratio(logprobs, old_logprobs, mask)
    ratio = logr.exp()
    advantages = masked(advantages, mask)
    is_clipped = -advantages * ratio.clamp(1 - eps_low, 1 + eps_high) > -advantages * ratio
    zero = torch.zeros_like(logr)
    return {
        "ratio_mean": _mean(ratio, mask),
        "ratio_min": _extreme(ratio, mask, torch.amin, empty=1.0),
        "ratio_max": _extreme(ratio, mask, torch.amax, empty=1.0),
        "clip_fraction": _mean(is_clipped, mask),
        "approx_kl": _mean(kl_k2(logr, zero), mask),
        "approx_kl_k3": _mean(kl_k3(zero, logr), mask),
    }


@torch.no_grad()
def engine_gap(old_logprobs: Tensor, engine_logprobs: Tensor, mask: Tensor, cap: float) -> dict[str, float]:
    """How far the engine's recorded log-probabilities lie from the learner's for the same weights and tokens.

    `mean_exp_abs`: mean exp(|old - engine|), 1 when they agree. `max_abs`: the greatest |old - engine|, at most 20.
    `sampled_kl`: KL(engine || learner) in nats a token, estimated on the engine's own samples. `capped_fraction`: the
    share of tokens whose importance weight exceeds `cap` and is cut.
    """
    gap = log_ratio(old_logprobs, engine_logprobs, mask)
    return {
        "mean_exp_abs": _mean(gap.abs().exp(), mask),
        "max_abs": _extreme(gap.abs(), mask, torch.amax, empty=0.0),
        "sampled_kl": _mean(-gap, mask),
        "capped_fraction": _mean(gap.exp() > cap, mask),
    }


@torch.no_grad()
def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """1 - Var(returns - values) / Var(returns): 1 for a perfect critic, 0 for a constant one, negative for a bad one.

    0 when the returns do not vary, where the figure says nothing.
    """
    total = _variance(returns, mask)
    return 1.0 - _variance(masked(returns, mask) - masked(values, mask), mask) / total if total > 0 else 0.0


def _mean(x: Tensor, mask: Tensor) -> float:
    return masked_mean(x, mask).item()


def _variance(x: Tensor, mask: Tensor) -> float:
    return _mean((x - masked_mean(x, mask)) ** 2, mask)


def _extreme(x: Tensor, mask: Tensor, reduce: Callable[[Tensor], Tensor], empty: float) -> float:
    picked = x[mask]
    return reduce(picked).item() if len(picked) else empty
