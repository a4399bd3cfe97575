"""A running scorer on one tiny revision that a registry holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from attune.domain.revisions import ModelName
from attune.platform.registry.registry import Registry
from attune.reward.engine import TransformersEngine
from attune.reward.metrics import RewardMetrics
from attune.reward.revisions import RewardRevisions, reward_revisions
from attune.reward.scorer import BatchLimits, Scorer
from prometheus_client import CollectorRegistry

MODEL = ModelName("rewards", "support")


@dataclass
class Running:
    registry: Registry
    revisions: RewardRevisions
    scorer: Scorer


async def _nothing() -> None:
    pass


@asynccontextmanager
async def running_scorer(tmp_path: Path, folder: Path) -> AsyncIterator[Running]:
    """Revision 1 is stable and live, revision 2 published."""
    registry = Registry(tmp_path / "registry")
    epoch = registry.take_epoch([MODEL], "test")
    for number in (1, 2):
        registry.publish(MODEL.revision(number), folder, epoch=epoch)
    metrics = RewardMetrics(CollectorRegistry())
    revisions = reward_revisions(
        registry, MODEL, TransformersEngine(), cache=tmp_path / "cache", metrics=metrics, on_live=_nothing
    )
    await revisions.follow(registry.move_alias(MODEL, "stable", 1, epoch=epoch, actor="test", reason=""))
    scorer = Scorer(revisions.loaded, BatchLimits(), metrics)
    task = asyncio.create_task(scorer.run())
    yield Running(registry, revisions, scorer)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
