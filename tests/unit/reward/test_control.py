"""RewardControlService: preloading makes nothing live, a pause holds the queue, the state is told."""

from __future__ import annotations

import asyncio

import pytest
from attune.api.reward.v1 import control_pb2
from attune.domain.errors import EpochSuperseded
from attune.domain.prompts import Prompt
from attune.reward.control import RewardControlServicer
from unit.reward.scoring import Running

ONE, TWO = (f"rewards/support/revisions/{n}" for n in (1, 2))


async def test_preloading_makes_nothing_live(running: Running) -> None:
    hints: list[int] = []
    servicer = RewardControlServicer(running.scorer, running.revisions, lambda: hints.append(1))
    response = await servicer.LoadRevision(control_pb2.LoadRevisionRequest(revision=TWO, epoch=5), None)  # type: ignore[arg-type]
    assert response.load_duration.ToTimedelta().total_seconds() > 0
    assert hints == [1]  # to look at the alias, which may have moved
    status = await servicer.GetStatus(control_pb2.GetStatusRequest(), None)  # type: ignore[arg-type]
    assert status.reward == "rewards/support"
    assert status.live_revision == ONE
    assert list(status.loaded_revisions) == [ONE, TWO]
    assert status.epoch == 5
    with pytest.raises(EpochSuperseded):
        await servicer.LoadRevision(control_pb2.LoadRevisionRequest(revision=TWO, epoch=4), None)  # type: ignore[arg-type]


async def test_a_pause_holds_the_queue(running: Running) -> None:
    servicer = RewardControlServicer(running.scorer, running.revisions, lambda: None)
    await servicer.Pause(control_pb2.PauseRequest(reason="look"), None)  # type: ignore[arg-type]
    waiting = asyncio.create_task(running.scorer.score([(Prompt.user("Hi"), "Yo")] * 3))
    async with asyncio.timeout(10):
        while running.scorer.queued_pairs < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    status = await servicer.GetStatus(control_pb2.GetStatusRequest(), None)  # type: ignore[arg-type]
    assert status.paused
    assert (status.queued_pairs, status.running_pairs) == (3, 0)
    await servicer.Resume(control_pb2.ResumeRequest(), None)  # type: ignore[arg-type]
    assert len((await waiting).raw) == 3
