"""The decode step: rows of one revision that grow together, each at its own length, joining and leaving freely.

Keys and values lie in one block a layer, (rows, heads, positions, width), written in place. A row's tokens stand at
positions 0..length, so rows of any length share a batch without padding on the left, and a mask by length hides what
lies beyond. A leaving row is overwritten by the last one, which keeps the batch dense. Prompts are prefilled together,
each distinct prompt once, and copied to the rows of their completions.

Works with causal models of transformers whose attention takes a 4D mask and whose cache holds keys and values, up to
the window of their attention where that is narrower than their context; attune.policy.probe tells which and how far.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer

from attune.modeling.batching import pad
from attune.policy.sampling import RowSampling, draw, uniforms


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

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Writes one position a row and returns what the active rows may see."""
        keys, values = self.content
        rows, positions, width = self.owner.rows, self.owner.positions, self.owner.width
        keys[rows, :, positions] = key_states[:, :, 0]
        values[rows, :, positions] = value_states[:, :, 0]
        n = len(rows)
        return keys[:n, :, :width], values[:n, :, :width]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.owner.width, 0

    def get_seq_length(self) -> int:
        return self.owner.width - 1

    def get_max_length(self) -> int:
        return -1


class Blocks(Cache):
    """The cache of a batch: a block a layer, with room that doubles when it runs out."""

    def __init__(self, layers: int) -> None:
        self.blocks = [Block(self) for _ in range(layers)]
        super().__init__(layers=list(self.blocks))
        self.rows = torch.zeros(0, dtype=torch.long)
        self.positions = torch.zeros(0, dtype=torch.long)
        self.width = 0
        self._room = (0, 0)

    def make_room(self, like: Tensor, rows: int, positions: int) -> None:
        """At least rows x positions in every block."""
        if rows <= self._room[0] and positions <= self._room[1]:
            return
        self._room = (max(self._room[0], _doubled(rows)), max(self._room[1], _doubled(positions)))
        for block in self.blocks:
            block.reserve(like, *self._room)

    def copy_in(self, prefilled: Cache, source: Tensor, first_row: int, length: int) -> None:
        """Puts prompts' keys and values at rows first_row...; `source` (n,) says which prompt each row has."""
        end = first_row + len(source)
        for block, layer in zip(self.blocks, prefilled.layers, strict=True):
            keys, values = block.content
            new_keys, new_values = cast(DynamicLayer, layer).keys, cast(DynamicLayer, layer).values
            keys[first_row:end, :, :length] = cast(Tensor, new_keys)[source]
            values[first_row:end, :, :length] = cast(Tensor, new_values)[source]

    def move_row(self, source: int, target: int, length: int) -> None:
        """Overwrites a row by another's first `length` positions."""
        for block in self.blocks:
            for content in block.content:
                content[target, :, :length] = content[source, :, :length]


class Decoder:
    """The growing rows of one model. Rows are numbered 0..n-1; `leave` may renumber them and says how."""

    def __init__(self, model: PreTrainedModel, pad_id: int) -> None:
        self._model = model
        self._pad_id = pad_id
        self._device = model.device
        self._lowest = torch.finfo(model.dtype).min
        self._blocks = Blocks(int(model.config.num_hidden_layers))
        self._lengths = torch.zeros(0, dtype=torch.long)
        self._last = torch.zeros(0, dtype=torch.long)
        self._drawn = np.zeros(0, dtype=np.int64)
        self._sampling = RowSampling(
            torch.zeros(0), torch.zeros(0), torch.zeros(0, dtype=torch.long), np.zeros(0, np.uint64)
        )

    def __len__(self) -> int:
        return len(self._lengths)

    @torch.inference_mode()
    def join(
        self, prompts: Sequence[Sequence[int]], source: Sequence[int], sampling: RowSampling
    ) -> tuple[list[int], list[float]]:
        """New rows behind the present ones: prefills `prompts`, row i going on from prompts[source[i]].

        Returns the first token of each new row and its log-probability.
        """
        batch = pad(prompts, self._pad_id, device=self._device)
        cache = DynamicCache(config=self._model.config)
        logits = self._model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            cache=cache,
            use_cache=True,
        ).logits
        ends = logits[torch.arange(len(prompts), device=self._device), batch.lengths - 1]
        chosen = torch.tensor(source, device=self._device)
        first, width = len(self), batch.input_ids.shape[1]
        like = cast(Tensor, cast(DynamicLayer, cache.layers[0]).keys)
        self._blocks.make_room(like, first + len(source), max(width + 1, self._blocks.width + 1))
        self._blocks.copy_in(cache, chosen, first, width)
        drawn = np.zeros(len(source), dtype=np.int64)
        tokens, logprobs = draw(ends[chosen], sampling, uniforms(sampling.stream, drawn))
        self._lengths = torch.cat([self._lengths, batch.lengths.cpu()[list(source)]])
        self._last = torch.cat([self._last, tokens.cpu()])
        self._drawn = np.concatenate([self._drawn, drawn + 1])
        self._sampling = _joined(self._sampling, sampling)
        return tokens.tolist(), logprobs.tolist()

    @torch.inference_mode()
    def step(self) -> tuple[list[int], list[float]]:
        """One token more for every row, and its log-probability."""
        n, width = len(self), int(self._lengths.max()) + 1
        blocks = self._blocks
        blocks.make_room(blocks.blocks[0].content[0], n, width)
        blocks.rows, blocks.positions = torch.arange(n, device=self._device), self._lengths.to(self._device)
        blocks.width = width
        hidden = torch.arange(width, device=self._device) > blocks.positions.unsqueeze(1)
        # Added to the scores, a form that every implementation of attention takes.
        mask = torch.zeros((n, width), dtype=self._model.dtype, device=self._device).masked_fill(hidden, self._lowest)
        logits = self._model(
            input_ids=self._last.to(self._device).unsqueeze(1),
            attention_mask=mask[:, None, None, :],
            position_ids=blocks.positions.unsqueeze(1),
            cache=blocks,
            use_cache=True,
        ).logits[:, -1]
        tokens, logprobs = draw(logits, self._sampling, uniforms(self._sampling.stream, self._drawn))
        self._lengths, self._drawn = self._lengths + 1, self._drawn + 1
        self._last = tokens.cpu()
        return self._last.tolist(), logprobs.tolist()

    @torch.inference_mode()
    def leave(self, rows: Sequence[int]) -> list[int]:
        """Takes rows out; returns, for each new row number, the old one."""
        order = list(range(len(self)))
        for row in sorted(set(rows), reverse=True):
            last = len(order) - 1
            if row != last:
                self._blocks.move_row(last, row, int(self._lengths[order[last]]))
                order[row] = order[last]
            order.pop()
        kept = torch.tensor(order, dtype=torch.long)
        self._lengths, self._last, self._drawn = self._lengths[kept], self._last[kept], self._drawn[order]
        on_device = kept.to(self._sampling.temperature.device)
        s = self._sampling
        self._sampling = RowSampling(s.temperature[on_device], s.top_p[on_device], s.top_k[on_device], s.stream[order])
        return order


def _joined(a: RowSampling, b: RowSampling) -> RowSampling:
    return RowSampling(
        torch.cat([a.temperature.to(b.temperature.device), b.temperature]),
        torch.cat([a.top_p.to(b.top_p.device), b.top_p]),
        torch.cat([a.top_k.to(b.top_k.device), b.top_k]),
        np.concatenate([a.stream, b.stream]),
    )


def _doubled(n: int) -> int:
    """The next power of two, at least 16."""
    return max(16, 1 << (n - 1).bit_length())
