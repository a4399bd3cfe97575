"""Forward passes for the decoder: one token of every row, and the prompts of new rows.

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

from attune.modeling.batching import pad
from attune.policy.batch import Batch
from attune.policy.blocks import Blocks
from attune.policy.packed_llama import PackedLlama

PADDING = 0
"""Masked, so that any token does."""


class Forward(Protocol):
    """What the decoder needs of a model."""

    def __call__(self, batch: Batch, blocks: Blocks) -> Tensor:
        """Logits (R, V) after the last token of each row; `blocks` holds the rows and gains the tokens of the batch."""
        ...


class ModelForward:
    """The model's own forward pass: of the newest tokens, then of the prompts."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._lowest = torch.finfo(model.dtype).min

    def __call__(self, batch: Batch, blocks: Blocks) -> Tensor:
        logits = [self._step(batch, blocks)] if len(batch.last) else []
        if batch.prompts:
            logits.append(self._prefill(batch, blocks))
        return torch.cat(logits)

    def _step(self, batch: Batch, blocks: Blocks) -> Tensor:
        device = self._model.device
        last, positions = (torch.from_numpy(x).to(device).unsqueeze(1) for x in (batch.last, batch.positions))
        blocks.write_at(positions.squeeze(1))
        hidden = torch.arange(blocks.width, device=device) > positions
        # Added to the scores, a form that every implementation of attention takes.
        mask = torch.zeros(hidden.shape, dtype=self._model.dtype, device=device)
        logits = self._model(
            input_ids=last,
            attention_mask=mask.masked_fill(hidden, self._lowest)[:, None, None, :],
            position_ids=positions,
            cache=blocks,
            use_cache=True,
        ).logits
        return cast(Tensor, logits[:, -1])

    def _prefill(self, batch: Batch, blocks: Blocks) -> Tensor:
        cache = DynamicCache(config=self._model.config)
        padded = pad(batch.prompts, PADDING, device=self._model.device)
        logits = self._model(
            input_ids=padded.input_ids,
            attention_mask=padded.attention_mask,
            position_ids=padded.position_ids,
            cache=cache,
            use_cache=True,
        ).logits
        source = torch.tensor(batch.source, device=self._model.device)
        layers = [cast(DynamicLayer, layer) for layer in cache.layers]
        filled = [(cast(Tensor, layer.keys), cast(Tensor, layer.values)) for layer in layers]
        blocks.copy_in(filled, source, len(batch.last))
        return cast(Tensor, logits[source, (padded.lengths - 1)[source]])


_packed: WeakKeyDictionary[PreTrainedModel, PackedLlama] = WeakKeyDictionary()
"""Packed once, kept as long as their models."""


def forward_of(model: PreTrainedModel) -> Forward:
    """The fastest pass that gives the numbers of this model, whose weights must not change from now on."""
    if not PackedLlama.takes(model):
        return ModelForward(model)
    if (packed := _packed.get(model)) is None:
        packed = _packed[model] = PackedLlama(model)
    return packed
