"""The decode step: rows of one revision that grow together, each at its own length, joining and leaving freely.

Keys and values lie in attune.policy.blocks. A leaving row is overwritten by the last one, which keeps the batch dense.
New rows join in a step of the others: their prompts go through the same pass, each distinct prompt once.

Works with the models that attune.policy.forward has a pass for, up to the window of their attention where that is
narrower than their context; attune.policy.probe tells which and how far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from attune.policy.batch import Batch
from attune.policy.blocks import Blocks
from attune.policy.forward import forward_of
from attune.policy.sampling import RowSampling, draw, uniforms


@dataclass(frozen=True)
class Joining:
    """New rows: row i goes on from prompts[source[i]] and draws by entry i of `sampling`."""

    prompts: Sequence[Sequence[int]]
    source: Sequence[int]
    sampling: RowSampling


NOBODY = Joining((), (), RowSampling.of([]))


class Decoder:
    """The growing rows of one model. Rows are numbered 0..n-1; `leave` may renumber them and says how."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._forward = forward_of(model)
        self._blocks = Blocks(int(model.config.num_hidden_layers))
        self._lengths, self._last, self._drawn = (np.zeros(0, dtype=np.int64) for _ in range(3))
        self._sampling = RowSampling.of([])

    def __len__(self) -> int:
        return len(self._lengths)

    @torch.inference_mode()
    def step(self, joining: Joining = NOBODY) -> tuple[list[int], list[float]]:
        """One token more for every row, and the first for new ones, which come behind; with their log-probabilities."""
        batch = Batch(self._last, self._lengths, joining.prompts, joining.source)
        logits = self._forward(batch, self._blocks)
        if joining.source:
            self._sampling = self._sampling.joined(joining.sampling)
            self._drawn = np.concatenate([self._drawn, np.zeros(len(joining.source), dtype=np.int64)])
        tokens, logprobs = draw(logits, self._sampling, uniforms(self._sampling.stream, self._drawn))
        self._lengths, self._last, self._drawn = batch.lengths, tokens, self._drawn + 1
        return tokens.tolist(), logprobs.tolist()

    @torch.inference_mode()
    def leave(self, rows: Sequence[int]) -> list[int]:
        """Takes rows out; returns, for each new row number, the old one."""
        order = list(range(len(self)))
        for hole in sorted(set(rows), reverse=True):
            if hole != len(order) - 1:
                self._blocks.move_row(len(order) - 1, hole, int(self._lengths[order[-1]]))
                order[hole] = order[-1]
            order.pop()
        self._lengths, self._last, self._drawn = self._lengths[order], self._last[order], self._drawn[order]
        self._sampling = self._sampling.kept(order)
        return order
