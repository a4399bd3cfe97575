"""Drawing tokens for many rows at once, each from its own stream of random numbers.

The uniform number of a token is a hash of (seed, completion index, token index): no generator is kept, so a row draws
the same numbers whatever else is in the batch. The token is the inverse of the cumulative distribution at that number.
Log-probabilities are those of the full distribution at the row's temperature, before top-p and top-k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass
class RowSampling:
    """How the rows of a batch draw; one entry a row."""

    temperature: Tensor
    top_p: Tensor
    top_k: Tensor
    stream: np.ndarray

    @property
    def is_full(self) -> bool:
        """Whether no row truncates its distribution."""
        return bool((self.top_p >= 1).all()) and bool((self.top_k == 0).all())


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
    logprobs = torch.log_softmax(logits.float() / rows.temperature.unsqueeze(1), dim=-1)
    probabilities = logprobs.exp() if rows.is_full else _truncated(logprobs, rows)
    cumulative = probabilities.double().cumsum(-1)
    target = torch.from_numpy(u).to(logits.device).unsqueeze(1) * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, target, right=True).clamp(max=logits.shape[1] - 1)
    return tokens.squeeze(1), logprobs.gather(1, tokens).squeeze(1)


def _truncated(logprobs: Tensor, rows: RowSampling) -> Tensor:
    """Probabilities with 0 outside top-k and top-p of each row; not renormalised. The likeliest token always stays."""
    ordered, order = logprobs.exp().sort(dim=-1, descending=True)
    rank = torch.arange(logprobs.shape[1], device=logprobs.device)
    beyond_k = (rows.top_k.unsqueeze(1) > 0) & (rank >= rows.top_k.unsqueeze(1))
    ordered = ordered.masked_fill(beyond_k, 0.0)
    share = ordered / ordered.sum(-1, keepdim=True)
    beyond_p = (rows.top_p.unsqueeze(1) < 1) & (share.cumsum(-1) - share >= rows.top_p.unsqueeze(1))
    kept = ordered.masked_fill(beyond_p, 0.0)
    return torch.zeros_like(kept).scatter(1, order, kept)
