"""The terms of PPO as pure functions, in the order in which a training step uses them.

    rewards = shaped_rewards(scores, logprobs, ref_logprobs, mask, beta)
    advantages, returns = gae(rewards, values, mask, gamma, lam)
    advantages = whiten(advantages, mask)                       # over the whole batch, before it is split
    loss = policy_loss(...), value_loss(...)                    # a micro-batch at a time, with the batch's `count`

The coefficient beta is governed in attune.trainer.kl_controller; what is reported about a step is in diagnostics.

Every per-token tensor is (B, T), float32, aligned to the tokens (attune.modeling.logprobs), with a boolean mask that is
true on response tokens, the EOS included. Numbers outside the mask are never used, be they huge or NaN, and outputs
there are 0. The mask may have holes (tokens the policy did not write): time runs over the true positions only.
Log-probabilities are natural, KL is in nats. Nothing here holds state, does I/O or draws random numbers.

Sources: Schulman et al., arXiv 1707.06347 (clipping) and 1506.02438 (GAE); Ziegler et al., arXiv 1909.08593 (KL in the
reward); Huang et al., arXiv 2403.17031 (the details); Schulman, "Approximating KL divergence"
(k1, k2, k3); Ye et al., arXiv 1912.09729 (dual clip).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Aggregation = Literal["token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "token-sum-over-constant"]
MissingEos = Literal["score", "penalty", "replace"]

LOG_RATIO_LIMIT = 20.0
"""Log-ratios are clamped to this before exp: e^20 is finite in float32, and far beyond what is learned from."""


# Masks and means


def masked(x: Tensor, mask: Tensor) -> Tensor:
    """x where the mask is true, 0 elsewhere. A product with the mask would let NaN and inf through; this does not."""
    return torch.where(mask, x.float(), 0.0)


def masked_mean(x: Tensor, mask: Tensor, count: Tensor | float | None = None) -> Tensor:
    """Sum of x under the mask over `count`: (B, T) -> scalar.

    `count` is the number of valid tokens in the GLOBAL batch when x is a micro-batch or one rank's share: the results
    then add up to the mean over the whole. Left out, it is the mask's own count. An empty mask gives 0.
    """
    return masked(x, mask).sum() / (mask.sum().clamp(min=1) if count is None else count)


def global_count(mask: Tensor, aggregation: Aggregation = "token-mean") -> int:
    """What `aggregate` divides by, over a whole batch's mask (B, T): its tokens, or its sequences that have any."""
    return int(mask.sum()) if aggregation == "token-mean" else int(mask.any(1).sum())


def aggregate(loss: Tensor, mask: Tensor, aggregation: Aggregation, count: Tensor | float | None = None) -> Tensor:
    """One loss from per-token losses (B, T); the aggregation decides how long and short responses weigh.

    token-mean: every token of the batch alike (the default). seq-mean-token-mean: every response alike, so that a long
    one's tokens weigh less. seq-mean-token-sum: responses' sums, averaged. token-sum-over-constant: the sum over a
    `count` that the caller fixes. `count` is the GLOBAL denominator (`global_count` of the whole batch); a micro-batch
    passes it so that gradients add up to the batch's.
    """
    if aggregation == "token-sum-over-constant" and count is None:
        raise ValueError("token-sum-over-constant needs the constant as `count`")
    denominator = max(global_count(mask, aggregation), 1) if count is None else count
    tokens_per_sequence = mask.sum(1, keepdim=True).clamp(min=1)
    weight = 1.0 / tokens_per_sequence if aggregation == "seq-mean-token-mean" else 1.0
    return (masked(loss, mask) * weight).sum() / denominator


# KL between policy and reference, per sampled token: ell = log pi - log pi_ref


def kl_k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """ell. Unbiased as a value, may be negative; as a loss its gradient is zero in expectation. Used in the reward."""
    return logprobs - ref_logprobs


def kl_k2(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """ell^2 / 2. Biased as a value, never negative; as a loss on-policy, the exact gradient of the reverse KL."""
    return 0.5 * (logprobs - ref_logprobs) ** 2


def kl_k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """exp(-ell) - 1 + ell. Unbiased as a value, never negative; as a loss it follows the forward KL: only report it."""
    ell = (logprobs - ref_logprobs).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    return torch.expm1(-ell) + ell


def sequence_kl(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor) -> Tensor:
    """KL in nats a response, the figure of the controller: k1 summed over tokens, mean over the batch."""
    return aggregate(kl_k1(logprobs, ref_logprobs), mask, "seq-mean-token-sum")


def next_token_kl(logits: Tensor, ref_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """KL of the next token's distributions, summed over the vocabulary: (N, V), (N, V) -> (N,), nats, never negative.

    Summed over the positions of sampled responses it has the expectation of k1 and a smaller variance (Rao-Blackwell;
    Amini et al., arXiv 2504.10637): the figure of the ceiling, which one unlucky batch must not break.
    """
    log_p = torch.log_softmax(logits.float() / temperature, dim=-1)
    log_q = torch.log_softmax(ref_logits.float() / temperature, dim=-1)
    return torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)


def kl_loss(
    logprobs: Tensor,
    ref_logprobs: Tensor,
    mask: Tensor,
    aggregation: Aggregation = "token-mean",
    count: Tensor | float | None = None,
) -> Tensor:
    """k2 as a loss, to be multiplied by its coefficient; an alternative to the penalty in the reward."""
    # Masked first: the gradient of a square multiplies by its argument, and 0 x NaN is NaN.
    kl = kl_k2(masked(logprobs, mask), masked(ref_logprobs.detach(), mask))
    return aggregate(kl, mask, aggregation, count)


# Rewards


def missing_eos_scores(scores: Tensor, ended: Tensor, policy: MissingEos = "score", value: float = 1.0) -> Tensor:
    """Scores (B,) with the policy for responses that did not end by EOS (`ended` (B,) bool is false).

    score: leave the reward model's score. penalty: subtract `value`. replace: put `value` in its place (e.g. -1).
    """
    unfinished: dict[MissingEos, Tensor] = {
        "score": scores,
        "penalty": scores - value,
        "replace": torch.full_like(scores, value),
    }
    return torch.where(ended, scores, unfinished[policy])


def shaped_rewards(
    scores: Tensor,
    logprobs: Tensor,
    ref_logprobs: Tensor,
    mask: Tensor,
    beta: float,
    *,
    ended: Tensor | None = None,
    missing_eos: MissingEos = "score",
    missing_eos_value: float = 1.0,
) -> Tensor:
    """Per-token rewards r_t = -beta k1_t, plus the score on the terminal token: scores (B,), (B, T)... -> (B, T).

    Terminal is the last true position of the mask: the EOS, or the last real token of a response cut by length. (Some
    trainers place the score one step later, on the first padding; here the value after the terminal is 0 by `gae`.)
    `ended` (B,) bool says which responses end with EOS and is needed for any missing-EOS policy but "score".
    """
    if ended is None and missing_eos != "score":
        raise ValueError(f"the missing-EOS policy {missing_eos!r} needs `ended`")
    if ended is not None:
        scores = missing_eos_scores(scores, ended, missing_eos, missing_eos_value)
    penalty = masked(-beta * kl_k1(logprobs, ref_logprobs), mask)
    return torch.where(_is_terminal(mask), penalty + scores.float().unsqueeze(1), penalty)


def _is_terminal(mask: Tensor) -> Tensor:
    """True on the last true position of each row; nowhere in an empty row."""
    still_to_come = mask.long().flip(1).cumsum(1).flip(1)
    return mask & (still_to_come == 1)


# Advantages


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float = 1.0, lam: float = 0.95) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation: (B, T) each -> advantages, returns (B, T).

    delta_t = r_t + gamma V_{t+1} - V_t;  A_t = delta_t + gamma lam A_{t+1};  V and A beyond the terminal are 0;
    returns = A + V. t + 1 is the next true position, so padding on either side and holes change nothing.
    """
    rewards, values = masked(rewards.detach(), mask), masked(values.detach(), mask)
    advantages = torch.zeros_like(rewards)
    next_value = torch.zeros_like(rewards[:, 0])
    next_advantage = torch.zeros_like(next_value)
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = delta + gamma * lam * next_advantage
        next_value = torch.where(mask[:, t], values[:, t], next_value)
        next_advantage = torch.where(mask[:, t], advantage, next_advantage)
        advantages[:, t] = torch.where(mask[:, t], advantage, 0.0)
    return advantages, advantages + values


def whiten(x: Tensor, mask: Tensor, *, biased: bool = True, shift_mean: bool = True, eps: float = 1e-8) -> Tensor:
    """(x - mean) / sqrt(var + eps) over the tokens under the mask: (B, T) -> (B, T). Call it on the whole batch.

    Biased variance divides by n, as the original implementation did; unbiased by n - 1. `shift_mean=False` keeps the
    mean, which is how rewards are scaled if they are.
    """
    n = mask.sum()
    mean = masked_mean(x, mask)
    variance = masked((x - mean) ** 2, mask).sum() / (n if biased else n - 1).clamp(min=1)
    whitened = (x - mean) * torch.rsqrt(variance + eps)
    return masked(whitened if shift_mean else whitened + mean, mask)


# Losses


def log_ratio(logprobs: Tensor, old_logprobs: Tensor, mask: Tensor) -> Tensor:
    """log(pi / pi_old) under the mask, clamped to +-20, 0 elsewhere (so that the ratio there is 1)."""
    return masked(logprobs - old_logprobs, mask).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)


def importance_weights(old_logprobs: Tensor, engine_logprobs: Tensor, mask: Tensor, cap: float) -> Tensor:
    """min(exp(old - engine), cap), detached, 1 outside the mask: corrects for the engine that sampled the tokens."""
    return log_ratio(old_logprobs, engine_logprobs, mask).exp().clamp(max=cap).detach()


def policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    eps_low: float = 0.2,
    eps_high: float = 0.2,
    dual_clip: float | None = None,
    weights: Tensor | None = None,
    aggregation: Aggregation = "token-mean",
    count: Tensor | float | None = None,
) -> Tensor:
    """Clipped surrogate: (B, T) each -> scalar. loss_t = w_t max(-A r, -A clip(r, 1 - eps_low, 1 + eps_high)).

    With `dual_clip` = c > 1, where A < 0 the loss is at most -A c. `weights` are `importance_weights`. `count` is the
    global denominator (see `aggregate`). With old_logprobs = logprobs.detach() the ratio is exactly 1.
    """
    if dual_clip is not None and not dual_clip > 1:
        raise ValueError(f"dual_clip must exceed 1, got {dual_clip}")
    ratio = log_ratio(logprobs, old_logprobs.detach(), mask).exp()
    advantages = masked(advantages.detach(), mask)
    loss = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - eps_low, 1 + eps_high))
    if dual_clip is not None:
        loss = torch.where(advantages < 0, torch.minimum(loss, -advantages * dual_clip), loss)
    if weights is not None:
        loss = loss * masked(weights.detach(), mask)
    return aggregate(loss, mask, aggregation, count)


def value_loss(
    values: Tensor,
    old_values: Tensor,
    returns: Tensor,
    mask: Tensor,
    *,
    eps_v: float = 0.2,
    aggregation: Aggregation = "token-mean",
    count: Tensor | float | None = None,
) -> Tensor:
    """Clipped value loss: 0.5 max((V - R)^2, (clip(V, V_old - eps_v, V_old + eps_v) - R)^2): (B, T) each -> scalar."""
    values, old_values, returns = (
        masked(values, mask),
        masked(old_values.detach(), mask),
        masked(returns.detach(), mask),
    )
    clipped = torch.maximum(torch.minimum(values, old_values + eps_v), old_values - eps_v)
    loss = 0.5 * torch.maximum((values - returns) ** 2, (clipped - returns) ** 2)
    return aggregate(loss, mask, aggregation, count)
