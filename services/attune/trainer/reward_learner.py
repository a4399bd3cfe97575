"""The learner of a reward model: updates on preferences, scores, normalisation, judgement on held-out feedback.

The loop has two, with disjoint people behind them: the one PPO follows, and the gate's. Both train by the likelihood of
attune.trainer.likelihood; tie prevalence and the bias of each rating source are learned with the weights. After an
update the scores are normalised anew on the anchors, a fixed list of (prompt, completion) that the first revision
wrote down, so that a KL coefficient keeps its meaning from revision to revision.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from attune.domain.errors import TrainingStopped
from attune.modeling.batching import length_buckets, pad
from attune.modeling.precision import Precision, products_in
from attune.modeling.reward_model import LoadedRewardModel, Normalisation, reward_input, save_reward_model
from attune.modeling.tokenizer import render_prompt
from attune.trainer.likelihood import preference_nll
from attune.trainer.optimizer_state import load_optimizer, save_optimizer
from attune.trainer.preferences import MAX_TIE_ORDER, Chat, Preference, batch_of

Pair = tuple[Chat, str]


@dataclass(frozen=True)
class RewardSettings:
    """Hyper-parameters of the reward update."""

    lr: float = 2e-4
    adam_eps: float = 1e-8
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    centring: float = 0.001
    warmup_steps: int = 4
    tokens_per_forward: int = 4_096
    precision: Precision = "float32"
    """Of the products of training and judging; scores that others see are always computed in float32."""


@dataclass(frozen=True)
class Judged:
    """`outcomes`: for each preference, the share of its ordered pairs that the scores order alike.
    `calibration_error`: the expected one of sigmoid(score difference) over all stated pairs, in [0, 1]."""

    outcomes: list[float]
    calibration_error: float


class RewardLearner:
    """Holds one reward model and its optimizer. `update` is the only thing that changes weights."""

    def __init__(self, loaded: LoadedRewardModel, settings: RewardSettings) -> None:
        self.model = loaded.model.eval().requires_grad_(True)
        self.normalisation = loaded.normalisation
        self.settings = settings
        self.updates = 0
        self._cut = 0
        self._tokenizer = loaded.tokenizer
        self._max_context = loaded.max_context
        self._device = next(self.model.parameters()).device
        self.log_delta = nn.Parameter(torch.full((MAX_TIE_ORDER - 1,), -2.0, device=self._device))
        self._sources = {source: i for i, source in enumerate(loaded.source_biases)}
        self.biases = nn.Parameter(torch.tensor(list(loaded.source_biases.values()), device=self._device))
        self.reset_optimizer()

    def reset_optimizer(self) -> None:
        """Fresh moments."""
        s = self.settings
        small = [self.log_delta, self.biases]
        groups = [
            {"params": list(self.model.parameters()), "weight_decay": s.weight_decay, "scale": 1.0},
            {"params": small, "weight_decay": 0.0, "scale": 20.0},  # a handful of scalars, far from their optimum
        ]
        self._optimizer = torch.optim.AdamW(groups, s.lr, eps=s.adam_eps)

    def count_cut(self) -> int:
        """How many sequences were cut to the context since this was last asked."""
        counted, self._cut = self._cut, 0
        return counted

    @property
    def source_biases(self) -> dict[str, float]:
        return {source: self.biases[i].item() for source, i in self._sources.items()}

    def update(self, preferences: Sequence[Preference]) -> dict[str, float]:
        """One optimizer step on a batch; returns its figures. TrainingStopped, before the step, if not finite."""
        self._add_sources(preferences)
        batch = batch_of(preferences, self._sources)
        with products_in(self.settings.precision, self._device):
            scores = self._forward(self._tokens(batch.sequences))
        result = preference_nll(scores, batch.items, self.log_delta, self.biases)
        loss = result.loss + self.settings.centring * scores.pow(2).mean()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.settings.max_grad_norm).item()
        if not (math.isfinite(norm) and math.isfinite(loss.item())):
            raise TrainingStopped("not finite in the reward update: loss or gradient")
        warm = min(1.0, (self.updates + 1) / max(self.settings.warmup_steps, 1))
        for group in self._optimizer.param_groups:
            group["lr"] = self.settings.lr * warm * group["scale"]
        self._optimizer.step()
        self.updates += 1
        return {"loss": loss.item(), "nll": result.loss.item(), "grad_norm": norm}

    @torch.no_grad()
    def raw_scores(self, pairs: Sequence[Pair]) -> list[float]:
        """Raw scores in the order of the pairs."""
        return self._forward(self._tokens(pairs)).tolist() if pairs else []

    def scores(self, pairs: Sequence[Pair]) -> list[float]:
        """Normalised scores in the order of the pairs."""
        n = self.normalisation
        return [(raw - n.mean) / n.std for raw in self.raw_scores(pairs)]

    def normalise(self, anchors: Sequence[Pair]) -> dict[str, float]:
        """Sets mean and deviation so that the anchors score 0 and 1; returns how far the anchors' raw scores moved."""
        before = self.normalisation
        self.normalisation = Normalisation.of(torch.tensor(self.raw_scores(anchors)))
        after = self.normalisation
        return {
            "anchor_mean": after.mean,
            "anchor_std": after.std,
            "anchor_drift": (after.mean - before.mean) / before.std,
        }

    def pair_outcomes(self, preferences: Sequence[Preference]) -> list[float]:
        """For each preference that orders anything, the share of its ordered pairs that the scores order alike."""
        return self.judged(preferences).outcomes

    def judged(self, preferences: Sequence[Preference], bins: int = 10) -> Judged:
        """How the scores stand to what people said; preferences that order nothing are left out."""
        ordered = [p for p in preferences if p.ordered_pairs()]
        with products_in(self.settings.precision, self._device):
            scores = iter(self.raw_scores([(p.prompt, text) for p in ordered for text in p.texts]))
        outcomes: list[float] = []
        probabilities: list[float] = []
        for p in ordered:
            s = [next(scores) for _ in p.texts]
            pairs = p.ordered_pairs()
            outcomes.append(sum((s[b] > s[w]) + 0.5 * (s[b] == s[w]) for b, w in pairs) / len(pairs))
            probabilities.extend(1 / (1 + math.exp(min(50.0, s[w] - s[b]))) for b, w in pairs)
        # A pair and its mirror: the winner had probability p, the loser 1 - p.
        claims = [(p, 1.0) for p in probabilities] + [(1 - p, 0.0) for p in probabilities]
        return Judged(outcomes, _expected_calibration_error(claims, bins))

    def _tokens(self, pairs: Sequence[Pair]) -> list[list[int]]:
        """Reward inputs; a sequence beyond the context loses the front of its prompt, never the answer."""
        inputs = [reward_input(self._tokenizer, render_prompt(self._tokenizer, p), text) for p, text in pairs]
        self._cut += sum(len(tokens) > self._max_context for tokens in inputs)
        return [tokens[-self._max_context :] for tokens in inputs]

    def _forward(self, sequences: list[list[int]]) -> Tensor:
        """Raw scores (N,), computed in batches of similar length."""
        lengths = [len(s) for s in sequences]
        order: list[int] = []
        scores = []
        for indices in length_buckets(lengths, len(lengths), self.settings.tokens_per_forward):
            padded = pad([sequences[i] for i in indices], int(self._tokenizer.pad_token_id), device=self._device)
            scores.append(self.model.scores(padded.input_ids, padded.attention_mask))
            order.extend(indices)
        return torch.cat(scores)[torch.tensor(order, device=self._device).argsort()]

    def _add_sources(self, preferences: Sequence[Preference]) -> None:
        """Gives every rating source of a batch a bias, 0 at first, keeping the optimizer's moments of the others."""
        new = sorted({p.source for p in preferences if p.kind == "rating"} - set(self._sources))
        if not new:
            return
        for source in new:
            self._sources[source] = len(self._sources)
        state = self._optimizer.state.pop(self.biases, {})
        zeros = torch.zeros(len(new), device=self._device)
        old, self.biases = self.biases, nn.Parameter(torch.cat([self.biases.detach(), zeros]))
        group = self._optimizer.param_groups[1]
        group["params"] = [self.biases if p is old else p for p in group["params"]]
        if state:
            self._optimizer.state[self.biases] = {
                name: torch.cat([value, zeros]) if value.dim() else value for name, value in state.items()
            }

    # State

    def publish(self, folder: Path) -> None:
        """Writes the folder that a reward server loads."""
        save_reward_model(
            LoadedRewardModel(self.model, self._tokenizer, self._max_context, self.normalisation, self.source_biases),
            folder,
        )

    def save(self, folder: Path) -> None:
        """Weights, moments and the rest, for `load`."""
        tensors = {name: p.detach().contiguous() for name, p in self.model.named_parameters()}
        save_file(
            {**tensors, "log_delta": self.log_delta.detach(), "biases": self.biases.detach()},
            folder / "reward.safetensors",
        )
        save_optimizer(self._optimizer, folder / "optimizer.safetensors")
        state = {
            "updates": self.updates,
            "sources": list(self._sources),
            "normalisation": [self.normalisation.mean, self.normalisation.std],
        }
        (folder / "learner.json").write_text(json.dumps(state))

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote, bit for bit."""
        state = json.loads((folder / "learner.json").read_text())
        stored = load_file(folder / "reward.safetensors")
        self._sources = {source: i for i, source in enumerate(state["sources"])}
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(stored[name])
            self.log_delta.copy_(stored["log_delta"])
        self.biases = nn.Parameter(stored["biases"].to(self._device))
        self.updates, self.normalisation = state["updates"], Normalisation(*state["normalisation"])
        self.reset_optimizer()
        load_optimizer(self._optimizer, folder / "optimizer.safetensors")


def _expected_calibration_error(claims: Sequence[tuple[float, float]], bins: int) -> float:
    """Mean |claimed - observed| over equal-width bins, weighted by size (Naeini et al. 2015); 0 without claims."""
    sums = [[0.0, 0.0, 0] for _ in range(bins)]
    for claimed, observed in claims:
        cell = sums[min(bins - 1, int(claimed * bins))]
        cell[0] += claimed
        cell[1] += observed
        cell[2] += 1
    return sum(abs(c - o) for c, o, _ in sums) / max(len(claims), 1)
