"""Advantages, three ways: how much better each token of a scored response was than what was to be expected.

    ppo     expected by a critic: KL in the reward, GAE, whitened over the batch
    grpo    expected from the same prompt's responses, in their standard deviations; KL in the loss
    rloo    expected from the same prompt's OTHER responses, KL of the response taken from its score

The last two need no critic, but several responses to a prompt: a response that stands alone teaches nothing (0). With
them every token of a response has the response's advantage. What an estimator changes beside the advantages is said by
its three attributes, and the learner asks for nothing else; clipping, the ceiling of KL and the gates are the same.
All functions are pure; scores are normalised ones, after the policy for a missing EOS.

Sources: Schulman et al., arXiv 1506.02438 (GAE); Shao et al., arXiv 2402.03300 (GRPO), with every token of the batch
weighing alike as in Yu et al., arXiv 2503.14476; Ahmadian et al., arXiv 2402.14740 (RLOO), after Kool et al. (2019).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from attune.trainer import ppo

Algorithm = Literal["ppo", "grpo", "rloo"]

DEVIATION_EPS = 1e-4
"""Added to a group's deviation, so that responses of nearly one score do not become great advantages."""


@dataclass(frozen=True)
class Measured:
    """A whole batch before any weight changes: per token (B, T), per response (B,).

    `groups` are numbers of prompts. `values` are the critic's, None where there is none.
    """

    scores: Tensor
    groups: Tensor
    mask: Tensor
    logprobs: Tensor
    ref_logprobs: Tensor
    values: Tensor | None = None


class Estimator(Protocol):
    """From a batch to its advantages."""

    has_critic: ClassVar[bool]
    aggregation: ClassVar[ppo.Aggregation]
    kl_is_in_loss: ClassVar[bool]

    def __call__(self, batch: Measured, beta: float) -> tuple[Tensor, Tensor | None]:
        """Advantages (B, T), 0 outside the mask, and what the critic should have said (B, T), None without one."""


@dataclass(frozen=True)
class Generalised:
    """PPO's: generalised advantage estimation with a critic."""

    gamma: float = 1.0
    lam: float = 0.95
    has_critic: ClassVar[bool] = True
    aggregation: ClassVar[ppo.Aggregation] = "token-mean"
    kl_is_in_loss: ClassVar[bool] = False

    def __call__(self, batch: Measured, beta: float) -> tuple[Tensor, Tensor | None]:
        if batch.values is None:
            raise ValueError("generalised advantage estimation needs the values of a critic")
        rewards = ppo.shaped_rewards(batch.scores, batch.logprobs, batch.ref_logprobs, batch.mask, beta)
        advantages, returns = ppo.gae(rewards, batch.values, batch.mask, self.gamma, self.lam)
        return ppo.whiten(advantages, batch.mask), returns


@dataclass(frozen=True)
class GroupRelative:
    """GRPO's."""

    has_critic: ClassVar[bool] = False
    aggregation: ClassVar[ppo.Aggregation] = "token-mean"
    kl_is_in_loss: ClassVar[bool] = True

    def __call__(self, batch: Measured, beta: float) -> tuple[Tensor, Tensor | None]:
        return _of_each_token(group_relative(batch.scores, batch.groups), batch.mask), None


@dataclass(frozen=True)
class LeaveOneOut:
    """RLOO's: a response is one action, so that its tokens' losses are summed."""

    has_critic: ClassVar[bool] = False
    aggregation: ClassVar[ppo.Aggregation] = "seq-mean-token-sum"
    kl_is_in_loss: ClassVar[bool] = False

    def __call__(self, batch: Measured, beta: float) -> tuple[Tensor, Tensor | None]:
        kl = ppo.masked(ppo.kl_k1(batch.logprobs, batch.ref_logprobs), batch.mask).sum(1)
        return _of_each_token(leave_one_out(batch.scores - beta * kl, batch.groups), batch.mask), None


def estimator_of(algorithm: Algorithm, gamma: float, lam: float) -> Estimator:
    """The estimator of an algorithm; `gamma` and `lam` are GAE's."""
    estimators: dict[Algorithm, Estimator] = {
        "ppo": Generalised(gamma, lam),
        "grpo": GroupRelative(),
        "rloo": LeaveOneOut(),
    }
    return estimators[algorithm]


def group_numbers(prompts: Sequence[Hashable]) -> list[int]:
    """For each response the number of its prompt, in the order in which prompts first appear."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(prompt, len(numbers)) for prompt in prompts]


def group_relative(scores: Tensor, groups: Tensor, eps: float = DEVIATION_EPS) -> Tensor:
    """(score - mean of its group) / (standard deviation of its group + eps): (B,), (B,) -> (B,) float32.

    The deviation is the unbiased one, over n - 1. A group whose scores are all alike gives 0.
    """
    sizes = _summed(torch.ones_like(scores), groups)
    from_mean = scores.float() - _summed(scores, groups) / sizes
    deviation = (_summed(from_mean**2, groups) / (sizes - 1).clamp(min=1)).sqrt()
    return from_mean / (deviation + eps)


def leave_one_out(rewards: Tensor, groups: Tensor) -> Tensor:
    """reward - mean reward of the others of its group: (B,), (B,) -> (B,) float32; 0 where there are no others."""
    others = _summed(torch.ones_like(rewards), groups) - 1
    baseline = (_summed(rewards, groups) - rewards.float()) / others.clamp(min=1)
    return torch.where(others > 0, rewards.float() - baseline, 0.0)


def _summed(x: Tensor, groups: Tensor) -> Tensor:
    """For each response the sum of x over its group: (B,), (B,) -> (B,) float32."""
    sums = torch.zeros(int(groups.max()) + 1, device=x.device).index_add(0, groups, x.float())
    return sums[groups]


def _of_each_token(advantages: Tensor, mask: Tensor) -> Tensor:
    return ppo.masked(advantages.unsqueeze(1).expand(mask.shape), mask)
