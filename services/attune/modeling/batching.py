"""Batches: token lists of different lengths as a rectangle, and the order that wastes least padding.

Lists come from the engine, the scorer, the learner and the stages. Positions are counted from the first real token, so
that a model gives the same numbers whichever side is padded. Refused: an empty batch and an empty sequence, which has
no last real token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class PaddedBatch:
    """`input_ids` (B, T) int64 and `attention_mask` (B, T) int64, 1 at real tokens."""

    input_ids: Tensor
    attention_mask: Tensor

    @property
    def position_ids(self) -> Tensor:
        """(B, T) int64."""
        return position_ids(self.attention_mask)

    @property
    def lengths(self) -> Tensor:
        """Real tokens a row: (B,) int64."""
        return self.attention_mask.sum(-1)


def pad(
    sequences: Sequence[Sequence[int]],
    pad_id: int,
    side: Literal["left", "right"] = "right",
    device: str | torch.device = "cpu",
) -> PaddedBatch:
    """Token lists as one rectangle as wide as the longest. Left for generation, right for training and scoring."""
    if not sequences or not all(len(sequence) for sequence in sequences):
        raise ValueError("a batch needs at least one sequence, and a sequence at least one token")
    width = max(len(sequence) for sequence in sequences)
    input_ids = torch.full((len(sequences), width), pad_id, dtype=torch.long)
    attention_mask = torch.zeros((len(sequences), width), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        real = slice(width - len(sequence), width) if side == "left" else slice(0, len(sequence))
        input_ids[row, real] = torch.tensor(list(sequence), dtype=torch.long)
        attention_mask[row, real] = 1
    return PaddedBatch(input_ids.to(device), attention_mask.to(device))


def position_ids(attention_mask: Tensor) -> Tensor:
    """cumsum(mask) - 1, padding at 0, which every model has: (B, T) -> (B, T) int64."""
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)


def last_real_index(attention_mask: Tensor) -> Tensor:
    """Index of the last real token of each row, whichever side is padded: (B, T) -> (B,) int64."""
    width = attention_mask.shape[-1]
    places = torch.arange(width, device=attention_mask.device)
    return (places * attention_mask.long()).argmax(-1)


def length_buckets(
    lengths: Sequence[int], batch_size: int, max_tokens: int | None = None, max_padding: int | None = None
) -> list[list[int]]:
    """Indices grouped by similar length: at most `batch_size` a group and, if given, `max_tokens` with its padding and
    `max_padding` tokens of that.

    Longest first, so that a batch that does not fit memory fails at once. A sequence longer than `max_tokens` stands
    alone. Equal lengths keep their order.
    """
    groups: list[list[int]] = []
    padding = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        group = groups[-1] if groups else None
        widest = lengths[group[0]] if group else 0
        padding += widest - lengths[index]
        fits = group is not None and len(group) < batch_size and (max_padding is None or padding <= max_padding)
        if group is not None and fits and (max_tokens is None or widest * (len(group) + 1) <= max_tokens):
            group.append(index)
        else:
            groups.append([index])
            padding = 0
    return groups
