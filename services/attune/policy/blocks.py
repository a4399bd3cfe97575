"""The cache of a batch whose rows grow together: keys and values of each layer in one block, written in place.

A block is (rows, heads, positions, width). A row's tokens stand at positions 0..length, so that rows of any length
share a batch without padding on the left. Keys and values come from the forward pass, which reads the same block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin


class Block(CacheLayerMixin):
    """Keys and values of one layer for all rows. `owner` says which rows are active and where they write."""

    is_sliding = False

    def __init__(self, owner: Blocks) -> None:
        super().__init__()
        self.owner = owner

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing: `reserve` makes the room."""

    def reserve(self, like: Tensor, rows: int, positions: int) -> None:
        """Room for rows x positions; what is there is kept."""
        shape = (rows, like.shape[1], positions, like.shape[3])
        keys, values = (torch.zeros(shape, dtype=like.dtype, device=like.device) for _ in range(2))
        if self.is_initialized:
            old_keys, old_values = self.content
            r, p = old_keys.shape[0], old_keys.shape[2]
            keys[:r, :, :p], values[:r, :, :p] = old_keys, old_values
        self.keys, self.values = keys, values
        self.is_initialized = True

    @property
    def content(self) -> tuple[Tensor, Tensor]:
        """Keys and values, (rows, heads, positions, width); `reserve` comes first."""
        return cast(Tensor, self.keys), cast(Tensor, self.values)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """The same memory as `content`, on a CPU."""
        keys, values = self.content
        return keys.numpy(), values.numpy()

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Writes one position a row, from (rows, heads, 1, width), and returns what the active rows may see."""
        owner = self.owner
        for content, new in zip(self.content, (key_states, value_states), strict=True):
            width = content.shape[3]
            content.view(-1, width).index_copy_(0, owner.slots, new.reshape(-1, width))
        keys, values = self.content
        return keys[: owner.active, :, : owner.width], values[: owner.active, :, : owner.width]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.owner.width, 0

    def get_seq_length(self) -> int:
        return self.owner.width - 1

    def get_max_length(self) -> int:
        return -1


class Blocks(Cache):
    """A block a layer, with room that doubles when it runs out."""

    def __init__(self, layers: int) -> None:
        self.blocks = [Block(self) for _ in range(layers)]
        super().__init__(layers=list(self.blocks))
        self.active, self.width = 0, 0
        self.slots = torch.zeros(0, dtype=torch.long)
        self._room = (0, 0)

    def make_room(self, like: Tensor, rows: int, positions: int) -> None:
        """At least rows x positions in every block; `like` (…, heads, …, width) tells the rest of the shape."""
        if rows <= self._room[0] and positions <= self._room[1]:
            return
        self._room = (max(self._room[0], _doubled(rows)), max(self._room[1], _doubled(positions)))
        for block in self.blocks:
            block.reserve(like, *self._room)

    def write_at(self, positions: Tensor) -> None:
        """Before a step of the rows 0..len(positions)-1: each writes at its position, and sees up to there."""
        width = int(positions.max()) + 1
        keys, _ = self.blocks[0].content
        self.make_room(keys, len(positions), width)
        heads, room = self.blocks[0].content[0].shape[1:3]
        lines = torch.arange(len(positions) * heads, device=positions.device)  # of `room` positions each
        self.slots = lines * room + positions.repeat_interleave(heads)
        self.active, self.width = len(positions), width

    def copy_in(self, prefilled: Sequence[tuple[Tensor, Tensor]], source: Tensor, first_row: int) -> None:
        """Puts prompts' keys and values, a pair a layer, at rows first_row...; `source` (n,) says which prompt each row
        has."""
        end, length = first_row + len(source), prefilled[0][0].shape[2]
        self.make_room(prefilled[0][0], end, length + 1)
        for block, layer in zip(self.blocks, prefilled, strict=True):
            for content, new in zip(block.content, layer, strict=True):
                content[first_row:end, :, :length] = new[source]

    def move_row(self, source: int, target: int, length: int) -> None:
        """Overwrites a row by another's first `length` positions."""
        for block in self.blocks:
            for content in block.content:
                content[target, :, :length] = content[source, :, :length]


def _doubled(n: int) -> int:
    """The next power of two, at least 16."""
    return max(16, 1 << (n - 1).bit_length())
