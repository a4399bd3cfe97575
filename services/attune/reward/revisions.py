"""The reward revisions of this server: attune.modeling.served with a reward model's way to load and to score once."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from pathlib import Path

import torch

from attune.domain.errors import CheckpointNotFinite
from attune.domain.revisions import ModelName
from attune.modeling.batching import pad
from attune.modeling.reward_model import LoadedRewardModel, load_reward_model
from attune.modeling.served import ServedRevisions, SwapMetrics
from attune.modeling.tokenizer import completion_ids
from attune.platform.registry.registry import Registry

RewardRevisions = ServedRevisions[LoadedRewardModel]


def reward_revisions(
    registry: Registry,
    model: ModelName,
    *,
    cache: Path,
    metrics: SwapMetrics,
    on_live: Callable[[], Awaitable[None]],
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> RewardRevisions:
    """Revisions of a reward model, loaded to `device`; `dtype` is the trunk's."""

    def load(folder: Path, expected_tokenizer_hash: str | None) -> LoadedRewardModel:
        return load_reward_model(folder, device, dtype, expected_tokenizer_hash)

    return ServedRevisions(registry, model, load=load, probe=check_score, cache=cache, metrics=metrics, on_live=on_live)


def check_score(loaded: LoadedRewardModel, name: str) -> None:
    """Finite weights can still overflow in a narrow dtype; one pass shows it, and warms the device up."""
    device = loaded.model.head.weight.device
    batch = pad([completion_ids(loaded.tokenizer, "ok")], int(loaded.tokenizer.pad_token_id), device=device)
    with torch.inference_mode():
        score = float(loaded.model.scores(batch.input_ids, batch.attention_mask))
    if not math.isfinite(score):
        raise CheckpointNotFinite(f"{name} scores {score}")
