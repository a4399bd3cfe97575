"""Drawing tokens for many rows at once, each from its own stream of random numbers.

The uniform number of a token is a hash of (seed, completion index, token index): no generator is kept, so a row draws
the same numbers whatever else is in the batch. The token is the inverse of the cumulative distribution at that number.
Log-probabilities are those of the full distribution at the row's temperature, before top-p and top-k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from attune.domain.generations import Sampling
from attune.policy.kernels import draw_whole

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class RowSampling:
    """How the rows of a batch draw; one entry a row, in memory of the CPU. `is_whole`: no row cuts its distribution."""

    temperature: np.ndarray
    top_p: np.ndarray
    top_k: np.ndarray
    stream: np.ndarray

    @cached_property
    def is_whole(self) -> bool:
        return bool((self.top_p >= 1).all()) and bool((self.top_k == 0).all())

    @classmethod
    def of(cls, rows: Sequence[tuple[Sampling, int]]) -> RowSampling:
        """Of each row its sampling, the seed filled in, and the index of its completion."""
        samplings = [sampling for sampling, _ in rows]
        return cls(
            np.array([s.temperature for s in samplings], dtype=np.float32),
            np.array([s.top_p for s in samplings], dtype=np.float32),
            np.array([s.top_k for s in samplings], dtype=np.int64),
            np.array([stream_of(int(s.seed or 0), index) for s, index in rows], dtype=np.uint64),
        )

    def joined(self, other: RowSampling) -> RowSampling:
        """The rows of both, these first."""
        return RowSampling(*(np.concatenate(pair) for pair in zip(self._parts, other._parts, strict=True)))

    def kept(self, rows: Sequence[int]) -> RowSampling:
        """Only these rows, in this order."""
        return RowSampling(*(part[list(rows)] for part in self._parts))

    @property
    def _parts(self) -> tuple[np.ndarray, ...]:
        return self.temperature, self.top_p, self.top_k, self.stream


def stream_of(seed: int, index: int) -> np.ndarray:
    """The stream of completion `index` under a seed."""
    with np.errstate(over="ignore"):
        return _mix(_mix(np.array(seed % 2**64, np.uint64)) + _GOLDEN * np.uint64(index + 1))


def uniforms(streams: np.ndarray, token_index: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1), one a row: (B,) uint64, (B,) -> (B,) float64."""
    with np.errstate(over="ignore"):
        mixed = _mix(streams + _GOLDEN * token_index.astype(np.uint64))
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea & Flood 2014), element by element."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def draw(logits: Tensor, rows: RowSampling, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and their log-probabilities: logits (B, V), u (B,) in [0, 1) -> (B,) int64, (B,) float32."""
    logits = logits.float()
    if rows.is_whole and logits.device.type == "cpu":
        tokens, logprobs = np.empty(len(u), np.int64), np.empty(len(u), np.float32)
        draw_whole(logits.numpy(), logits.amax(-1).numpy(), rows.temperature, u, tokens, logprobs)
        return tokens, logprobs
    device = logits.device
    scaled = logits / torch.from_numpy(rows.temperature).to(device).unsqueeze(1)
    scaled = scaled - scaled.amax(-1, keepdim=True)
    weights = scaled.exp()
    cumulative = (weights if rows.is_whole else _cut(weights, rows)).cumsum(-1, dtype=torch.float64)
    target = torch.from_numpy(u).to(device).unsqueeze(1) * cumulative[:, -1:]
    found = torch.searchsorted(cumulative, target, right=True).clamp_(max=logits.shape[1] - 1)
    total = weights.sum(-1, keepdim=True, dtype=torch.float64)
    return found.squeeze(1).cpu().numpy(), (scaled.gather(1, found) - total.log()).squeeze(1).float().cpu().numpy()


def _cut(weights: Tensor, rows: RowSampling) -> Tensor:
    """Weights with 0 outside top-k and top-p of each row. The likeliest token always stays."""
    top_p, top_k = (torch.from_numpy(limit).to(weights.device).unsqueeze(1) for limit in (rows.top_p, rows.top_k))
    ordered, order = weights.sort(dim=-1, descending=True)
    rank = torch.arange(weights.shape[1], device=weights.device)
    ordered = ordered.masked_fill((top_k > 0) & (rank >= top_k), 0.0)
    share = ordered / ordered.sum(-1, keepdim=True)
    beyond_p = (top_p < 1) & (share.cumsum(-1) - share >= top_p)
    return torch.zeros_like(weights).scatter(1, order, ordered.masked_fill(beyond_p, 0.0))
