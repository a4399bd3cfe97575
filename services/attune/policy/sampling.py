"""Drawing tokens for many rows at once, each from its own stream of random numbers.

The uniform number of a token is a hash of (seed, completion index, token index): no generator is kept, so a row draws
the same numbers whatever else is in the batch. The token is the inverse of the cumulative distribution at that number.
Log-probabilities are those of the full distribution at the row's temperature, before top-p and top-k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from attune.domain.generations import Sampling

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class RowSampling:
    """How the rows of a batch draw; one entry a row. `is_full`: no row truncates its distribution, and `is_plain`: nor
    has any a temperature but 1; both spare work."""

    temperature: Tensor
    top_p: Tensor
    top_k: Tensor
    stream: np.ndarray
    is_full: bool = field(init=False)
    is_plain: bool = field(init=False)

    def __post_init__(self) -> None:
        is_full = bool((self.top_p >= 1).all()) and bool((self.top_k == 0).all())
        object.__setattr__(self, "is_full", is_full)
        object.__setattr__(self, "is_plain", is_full and bool((self.temperature == 1).all()))

    @classmethod
    def of(cls, rows: Sequence[tuple[Sampling, int]], device: torch.device) -> RowSampling:
        """Of each row its sampling, the seed filled in, and the index of its completion."""
        samplings = [sampling for sampling, _ in rows]
        return cls(
            torch.tensor([s.temperature for s in samplings], dtype=torch.float32, device=device),
            torch.tensor([s.top_p for s in samplings], dtype=torch.float32, device=device),
            torch.tensor([s.top_k for s in samplings], dtype=torch.long, device=device),
            np.array([stream_of(int(s.seed or 0), index) for s, index in rows], dtype=np.uint64),
        )

    def joined(self, other: RowSampling) -> RowSampling:
        """The rows of both, these first."""
        return RowSampling(
            torch.cat([self.temperature, other.temperature]),
            torch.cat([self.top_p, other.top_p]),
            torch.cat([self.top_k, other.top_k]),
            np.concatenate([self.stream, other.stream]),
        )

    def kept(self, rows: Sequence[int]) -> RowSampling:
        """Only these rows, in this order."""
        on_device = torch.tensor(rows, dtype=torch.long, device=self.temperature.device)
        return RowSampling(
            self.temperature[on_device], self.top_p[on_device], self.top_k[on_device], self.stream[list(rows)]
        )


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


def draw(logits: Tensor, rows: RowSampling, u: np.ndarray) -> tuple[Tensor, Tensor]:
    """Tokens and their log-probabilities: logits (B, V), u (B,) in [0, 1) -> (B,) int64, (B,) float32."""
    scaled = logits.float() if rows.is_plain else logits.float() / rows.temperature.unsqueeze(1)
    scaled = scaled - scaled.amax(-1, keepdim=True)
    weights = scaled.exp()
    kept = weights if rows.is_full else _truncated(weights, rows)
    cumulative = kept.cumsum(-1, dtype=torch.float64)
    target = torch.from_numpy(u).to(logits.device).unsqueeze(1) * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, target, right=True).clamp_(max=logits.shape[1] - 1)
    total = cumulative[:, -1:] if rows.is_full else weights.sum(-1, keepdim=True, dtype=torch.float64)
    return tokens.squeeze(1), (scaled.gather(1, tokens) - total.log()).squeeze(1).float()


def _truncated(weights: Tensor, rows: RowSampling) -> Tensor:
    """Weights with 0 outside top-k and top-p of each row. The likeliest token always stays."""
    ordered, order = weights.sort(dim=-1, descending=True)
    rank = torch.arange(weights.shape[1], device=weights.device)
    beyond_k = (rows.top_k.unsqueeze(1) > 0) & (rank >= rows.top_k.unsqueeze(1))
    ordered = ordered.masked_fill(beyond_k, 0.0)
    share = ordered / ordered.sum(-1, keepdim=True)
    beyond_p = (rows.top_p.unsqueeze(1) < 1) & (share.cumsum(-1) - share >= rows.top_p.unsqueeze(1))
    kept = ordered.masked_fill(beyond_p, 0.0)
    return torch.zeros_like(kept).scatter(1, order, kept)
