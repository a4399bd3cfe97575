"""Forward passes for the decoder: the prompts of new rows, and one token of every row.

A pass is either the model's own (any causal model of transformers whose attention takes a 4D mask and whose cache holds
keys and values) or, for the Llama shape in float32 on a CPU, the one of attune.policy.packed_llama, which gives the
same numbers with fewer and faster operations. attune.policy.probe holds both to a plain pass of the model.
"""

from __future__ import annotations

from typing import Protocol, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from attune.modeling.batching import PaddedBatch
from attune.policy.blocks import Blocks
from attune.policy.packed_llama import PackedLlama


class Forward(Protocol):
    """What the decoder needs of a model."""

    def prefill(self, batch: PaddedBatch) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Logits after the last real token of each prompt (B, V), and keys and values (B, heads, T, width) a layer."""
        ...

    def step(self, last: Tensor, positions: Tensor, blocks: Blocks) -> Tensor:
        """Logits (R, V) after `last` (R,), which stands at `positions` (R,); `blocks` is told where to write."""
        ...


class ModelForward:
    """The model's own forward pass."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._lowest = torch.finfo(model.dtype).min

    def prefill(self, batch: PaddedBatch) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        cache = DynamicCache(config=self._model.config)
        logits = self._model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            cache=cache,
            use_cache=True,
        ).logits
        ends = logits[torch.arange(len(logits), device=logits.device), batch.lengths - 1]
        layers = [cast(DynamicLayer, layer) for layer in cache.layers]
        return ends, [(cast(Tensor, layer.keys), cast(Tensor, layer.values)) for layer in layers]

    def step(self, last: Tensor, positions: Tensor, blocks: Blocks) -> Tensor:
        hidden = torch.arange(blocks.width, device=last.device) > positions.unsqueeze(1)
        # Added to the scores, a form that every implementation of attention takes.
        mask = torch.zeros(hidden.shape, dtype=self._model.dtype, device=last.device)
        logits = self._model(
            input_ids=last.unsqueeze(1),
            attention_mask=mask.masked_fill(hidden, self._lowest)[:, None, None, :],
            position_ids=positions.unsqueeze(1),
            cache=blocks,
            use_cache=True,
        ).logits
        return cast(Tensor, logits[:, -1])


_packed: WeakKeyDictionary[PreTrainedModel, PackedLlama] = WeakKeyDictionary()
"""Packed once, kept as long as their models."""


def forward_of(model: PreTrainedModel) -> Forward:
    """The fastest pass that gives the numbers of this model, whose weights must not change from now on."""
    if not PackedLlama.takes(model):
        return ModelForward(model)
    if (packed := _packed.get(model)) is None:
        packed = _packed[model] = PackedLlama(model)
    return packed
