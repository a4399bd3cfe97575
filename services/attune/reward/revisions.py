"""The reward revisions of this server: attune.modeling.served with an engine's way to load and to score once."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from pathlib import Path

from attune.domain.errors import CheckpointNotFinite
from attune.domain.revisions import ModelName
from attune.modeling.served import ServedRevisions, SwapMetrics
from attune.modeling.tokenizer import completion_ids
from attune.platform.registry.registry import Registry
from attune.reward.engine import RewardEngine, ScoringModel

RewardRevisions = ServedRevisions[ScoringModel]


def reward_revisions(
    registry: Registry,
    model: ModelName,
    engine: RewardEngine,
    *,
    cache: Path,
    metrics: SwapMetrics,
    on_live: Callable[[], Awaitable[None]],
) -> RewardRevisions:
    """Revisions of a reward model, loaded by `engine`."""
    return ServedRevisions(
        registry, model, load=engine.load, probe=check_score, cache=cache, metrics=metrics, on_live=on_live
    )


def check_score(loaded: ScoringModel, name: str) -> None:
    """Finite weights can still overflow in a narrow dtype; one pass shows it, and warms the device up."""
    (score,) = loaded.raw_scores([completion_ids(loaded.tokenizer, "ok")])
    if not math.isfinite(score):
        raise CheckpointNotFinite(f"{name} scores {score}")
