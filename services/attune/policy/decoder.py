"""The decode step: rows of one revision that grow together, each at its own length, joining and leaving freely.

Keys and values lie in attune.policy.blocks, and a mask by length hides what lies beyond a row's tokens. A leaving row
is overwritten by another one, which keeps the batch dense and long rows before short ones. Prompts are prefilled
together, each distinct prompt once, and copied to the rows of their completions.

Works with the models that attune.policy.forward has a pass for, up to the window of their attention where that is
narrower than their context; attune.policy.probe tells which and how far.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from attune.modeling.batching import pad
from attune.policy.blocks import GROUP_ROWS, Blocks
from attune.policy.forward import forward_of
from attune.policy.sampling import RowSampling, draw, uniforms


class Decoder:
    """The growing rows of one model. Rows are numbered 0..n-1; `leave` may renumber them and says how."""

    def __init__(self, model: PreTrainedModel, pad_id: int) -> None:
        self._forward = forward_of(model)
        self._pad_id = pad_id
        self.device = model.device
        self._blocks = Blocks(int(model.config.num_hidden_layers))
        self._lengths = torch.zeros(0, dtype=torch.long)
        self._last = torch.zeros(0, dtype=torch.long)
        self._drawn = np.zeros(0, dtype=np.int64)
        self._sampling = RowSampling.of([], self.device)

    def __len__(self) -> int:
        return len(self._lengths)

    @torch.inference_mode()
    def join(
        self, prompts: Sequence[Sequence[int]], source: Sequence[int], sampling: RowSampling
    ) -> tuple[list[int], list[float]]:
        """New rows behind the present ones: prefills `prompts`, row i going on from prompts[source[i]].

        Returns the first token of each new row and its log-probability.
        """
        batch = pad(prompts, self._pad_id, device=self.device)
        ends, layers = self._forward.prefill(batch)
        chosen = torch.tensor(source, device=self.device)
        self._blocks.copy_in(layers, chosen, len(self))
        drawn = np.zeros(len(source), dtype=np.int64)
        tokens, logprobs = draw(ends[chosen], sampling, uniforms(sampling.stream, drawn))
        self._lengths = torch.cat([self._lengths, batch.lengths.cpu()[list(source)]])
        self._last = torch.cat([self._last, tokens.cpu()])
        self._drawn = np.concatenate([self._drawn, drawn + 1])
        self._sampling = self._sampling.joined(sampling)
        return tokens.tolist(), logprobs.tolist()

    @torch.inference_mode()
    def step(self) -> tuple[list[int], list[float]]:
        """One token more for every row, and its log-probability."""
        positions = self._lengths.to(self.device)
        self._blocks.write_at(positions)
        logits = self._forward.step(self._last.to(self.device), positions, self._blocks)
        tokens, logprobs = draw(logits, self._sampling, uniforms(self._sampling.stream, self._drawn))
        self._lengths, self._drawn = self._lengths + 1, self._drawn + 1
        self._last = tokens.cpu()
        return self._last.tolist(), logprobs.tolist()

    @torch.inference_mode()
    def leave(self, rows: Sequence[int]) -> list[int]:
        """Takes rows out; returns, for each new row number, the old one."""
        lengths = self._lengths.tolist()
        order = list(range(len(lengths)))
        for hole in sorted(set(rows), reverse=True):
            # From group to group, so that long rows stay before short ones and groups of like lengths.
            while (heir := _heir(hole, [lengths[row] for row in order])) != hole:
                self._blocks.move_row(heir, hole, lengths[order[heir]])
                order[hole], hole = order[heir], heir
            order.pop()
        kept = torch.tensor(order, dtype=torch.long)
        self._lengths, self._last, self._drawn = self._lengths[kept], self._last[kept], self._drawn[order]
        self._sampling = self._sampling.kept(order)
        return order


def _heir(hole: int, lengths: Sequence[int]) -> int:
    """The row that takes a leaving one's place: the longest of the group behind it, the last one in the last group."""
    start = (hole // GROUP_ROWS + 1) * GROUP_ROWS
    if start >= len(lengths):
        return len(lengths) - 1
    return max(range(start, min(start + GROUP_ROWS, len(lengths))), key=lengths.__getitem__)
