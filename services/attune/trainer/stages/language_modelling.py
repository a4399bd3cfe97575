"""Next-token training of a causal LM, for pretraining and SFT: sequences with a mask of the tokens to learn.

The stages prepare `MaskedSequence`s; `LanguageModelLearner` is what the shared loop drives. The loss is the mean
cross-entropy over the learnt tokens of a batch, in float32, each token counting alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from attune.modeling.batching import length_buckets, pad
from attune.modeling.precision import products_in
from attune.trainer.optimizer_state import load_optimizer, save_optimizer
from attune.trainer.stages.training import (
    BatchOrder,
    StageSettings,
    apply_gradients,
    new_optimizer,
)

NOT_LEARNT = -100
MAX_VALIDATION_SEQUENCES = 128
"""A validation reads at most this many; enough for two digits, and a small part of the time between two."""


@dataclass(frozen=True)
class MaskedSequence:
    """Token ids, of which those from `learnt_from` on are learnt; the first token of all never can be."""

    ids: tuple[int, ...]
    learnt_from: int = 1


class LanguageModelLearner:
    """A causal LM, its optimizer and its data."""

    def __init__(
        self,
        model: PreTrainedModel,
        pad_id: int,
        training: Sequence[MaskedSequence],
        validation: Sequence[MaskedSequence],
        settings: StageSettings,
    ) -> None:
        self.model = model.eval().requires_grad_(True)
        torch.nn.Module.to(self.model, settings.device)
        self._pad_id, self._training, self._settings = pad_id, training, settings
        self._validation = list(validation)[:MAX_VALIDATION_SEQUENCES]
        self._optimizer = new_optimizer(model, settings)
        self.batches = BatchOrder([len(sequence.ids) for sequence in training], settings)

    def step(self, index: int, lr: float) -> tuple[float, int]:
        """One batch; returns its loss in nats a token, and how many tokens it read."""
        batch = [self._training[i] for i in self.batches[index]]
        total, count = self._loss(batch)
        loss = total / count
        loss.backward()
        apply_gradients(self.model, self._optimizer, lr, self._settings.max_grad_norm)
        return loss.item(), sum(len(sequence.ids) for sequence in batch)

    @torch.no_grad()
    def validate(self) -> float | None:
        """Nats a token over the held-out sequences."""
        if not self._validation:
            return None
        buckets = length_buckets([len(sequence.ids) for sequence in self._validation], self._settings.batch_size)
        losses = [self._loss([self._validation[i] for i in bucket]) for bucket in buckets]
        return sum(total.item() for total, _ in losses) / sum(count for _, count in losses)

    def save(self, folder: Path) -> None:
        # Tied weights are one parameter, and named_parameters names it once.
        save_file({n: p.detach().contiguous() for n, p in self.model.named_parameters()}, folder / "model.safetensors")
        save_optimizer(self._optimizer, folder / "optimizer.safetensors")

    def load(self, folder: Path) -> None:
        stored = load_file(folder / "model.safetensors")
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(stored[name])
        load_optimizer(self._optimizer, folder / "optimizer.safetensors")

    def _loss(self, batch: Sequence[MaskedSequence]) -> tuple[Tensor, int]:
        """Summed cross-entropy of the learnt tokens, and their number."""
        padded = pad([sequence.ids for sequence in batch], self._pad_id, device=self._settings.device)
        places = torch.arange(padded.input_ids.shape[1], device=padded.input_ids.device)
        starts = torch.tensor([max(1, sequence.learnt_from) for sequence in batch], device=places.device)
        learnt = padded.attention_mask.bool() & (places >= starts[:, None])
        # Padded on the right, a causal model needs no attention mask: what comes after cannot be seen. Without one,
        # attention takes its faster form.
        with products_in(self._settings.precision, self._settings.device):
            logits = self.model(input_ids=padded.input_ids, use_cache=False).logits
        targets = padded.input_ids.masked_fill(~learnt, NOT_LEARNT)[:, 1:]
        predictions = logits[:, :-1].float().flatten(0, 1)
        loss = F.cross_entropy(predictions, targets.flatten(), ignore_index=NOT_LEARNT, reduction="sum")
        return loss, int(learnt.sum())
