"""The first reward model: trained on rankings, pairs and ratings, on the trunk of the SFT policy.

The update itself is attune.trainer.reward_learner's, the one the loop goes on with. After training the scores are
normalised to mean 0 and deviation 1 on the anchors, which are written beside the weights for every later revision.
Anchors should be samples of the policy that enters the loop; without any, texts of the training data stand in.

Reported on what is held out: accuracy (share of stated pairs in the right order), calibration error (ECE) and
likelihood. A preference with a text beyond the context is dropped and counted.
Refused: what attune.trainer.stages.data and .training refuse.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attune.modeling.anchors import Anchor, write_anchors
from attune.modeling.loading import load_for_training
from attune.modeling.reward_model import (
    MANIFEST_FILE,
    LoadedRewardModel,
    load_reward_model,
    reward_input,
    reward_model_on,
)
from attune.modeling.tokenizer import render_prompt
from attune.trainer.likelihood import preference_nll
from attune.trainer.preferences import Preference, batch_of
from attune.trainer.reward_learner import RewardLearner, RewardSettings
from attune.trainer.stages.data import read_preferences, split_by_prompt
from attune.trainer.stages.training import (
    BatchOrder,
    OnProgress,
    StageResult,
    StageRun,
    StageSettings,
    source_identity,
)

ANCHORS = 256
MAX_VALIDATION_PREFERENCES = 256
"""A validation between steps reads at most this many; the figures at the end read all."""


def train_reward_model(
    data: Sequence[str | Path],
    out: str | Path,
    base: str | Path,
    settings: StageSettings,
    *,
    anchors: Sequence[Anchor] | None = None,
    on_progress: OnProgress | None = None,
) -> StageResult:
    """Train on the preferences of `data` and write a reward model folder to `out`.

    `base` is a causal-LM folder or hub id, whose trunk is taken, or a reward model folder to go on from. The result's
    metrics are `accuracy` and `calibration_error` in [0, 1], `anchor_mean` and `anchor_std`.
    """
    identity = ["reward-model", [source_identity(path) for path in data], source_identity(base), anchors]
    run = StageRun(out, settings, identity)
    if finished := run.finished():
        return finished
    start = _start(base, settings)
    preferences = read_preferences(data)
    fitting = [p for p in preferences if _longest(start.tokenizer, p) <= start.max_context]
    training, validation = split_by_prompt(fitting, lambda p: p.prompt, settings.validation_share)
    learner = _PreferenceLearner(start, training, validation, settings)
    loss, validation_loss = run.train(learner, learner.batches.steps, on_progress)
    fixed = list(anchors) if anchors is not None else _stand_in_anchors(training, settings.seed)
    result = StageResult(
        folder=run.out,
        steps=learner.batches.steps,
        loss=loss,
        validation_loss=validation_loss,
        training_examples=len(training),
        validation_examples=len(validation),
        dropped_too_long=len(preferences) - len(fitting),
        metrics=_scale(learner.rewards, fixed) | held_out_figures(learner.rewards, validation),
    )

    def write(folder: Path) -> None:
        learner.rewards.publish(folder)
        write_anchors(folder, fixed)

    return run.finish(result, write)


def held_out_figures(learner: RewardLearner, preferences: Sequence[Preference]) -> dict[str, float]:
    """`accuracy` and `calibration_error` over the pairs that the preferences order; empty if they order none."""
    judged = learner.judged(preferences)
    if not judged.outcomes:
        return {}
    return {
        "accuracy": sum(judged.outcomes) / len(judged.outcomes),
        "calibration_error": judged.calibration_error,
    }


def _scale(learner: RewardLearner, anchors: Sequence[Anchor]) -> dict[str, float]:
    """Normalises; mean and deviation alone, for a first revision has drifted from nothing."""
    figures = learner.normalise(anchors)
    return {name: figures[name] for name in ("anchor_mean", "anchor_std")}


class _PreferenceLearner:
    """The reward learner as the shared loop drives it: batches of `batch_size` sequences, rounded to preferences."""

    def __init__(
        self,
        start: LoadedRewardModel,
        training: Sequence[Preference],
        validation: Sequence[Preference],
        settings: StageSettings,
    ) -> None:
        self._settings = RewardSettings(
            adam_eps=settings.adam_eps,
            weight_decay=settings.weight_decay,
            max_grad_norm=settings.max_grad_norm,
            warmup_steps=0,  # the stage's schedule has it
            precision=settings.precision,
        )
        self.rewards = RewardLearner(start, self._settings)
        self._training, self._validation = training, list(validation)[:MAX_VALIDATION_PREFERENCES]
        self._lengths = [_longest(start.tokenizer, p) for p in training]
        texts = sum(len(p.texts) for p in training)
        per_batch = max(1, round(settings.batch_size * len(training) / max(texts, 1)))
        self.batches = BatchOrder(self._lengths, replace(settings, batch_size=per_batch))

    def step(self, index: int, lr: float) -> tuple[float, int]:
        batch = self.batches[index]
        self.rewards.settings = replace(self._settings, lr=lr)
        figures = self.rewards.update([self._training[i] for i in batch])
        return figures["nll"], sum(self._lengths[i] * len(self._training[i].texts) for i in batch)

    def validate(self) -> float | None:
        """Nats an item; ratings of a source that training never saw have no bias yet and are left out."""
        sources = {source: i for i, source in enumerate(self.rewards.source_biases)}
        known = [p for p in self._validation if p.kind != "rating" or p.source in sources]
        if not known:
            return None
        batch = batch_of(known, sources)
        scores = torch.tensor(self.rewards.raw_scores(batch.sequences))
        log_delta, biases = self.rewards.log_delta.detach().cpu(), self.rewards.biases.detach().cpu()
        return preference_nll(scores, batch.items, log_delta, biases).loss.item()

    def save(self, folder: Path) -> None:
        self.rewards.save(folder)

    def load(self, folder: Path) -> None:
        self.rewards.load(folder)


def _start(base: str | Path, settings: StageSettings) -> LoadedRewardModel:
    if (Path(base) / MANIFEST_FILE).is_file():
        return load_reward_model(base, settings.device)
    policy = load_for_training(base, settings.seed)
    model = reward_model_on(cast(PreTrainedModel, policy.model.base_model), settings.seed).to(settings.device)
    return LoadedRewardModel(model, policy.tokenizer, policy.max_context)


def _longest(tokenizer: PreTrainedTokenizerBase, preference: Preference) -> int:
    """Tokens of the longest reward input of a preference."""
    prompt_ids = render_prompt(tokenizer, preference.prompt)
    return max(len(reward_input(tokenizer, prompt_ids, text)) for text in preference.texts)


def _stand_in_anchors(training: Sequence[Preference], seed: int) -> list[Anchor]:
    pairs = [(p.prompt, text) for p in training for text in p.texts]
    return random.Random(seed).sample(pairs, min(ANCHORS, len(pairs)))
