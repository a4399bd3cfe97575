"""The reward server with engine=triton: it waits for Triton, scores through it, and says so when Triton is away."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from attune.client import NO_RETRY, AsyncClient, Prompt
from attune.domain.errors import EngineUnavailable
from attune.domain.revisions import ModelName
from attune.platform.config import AppPort, ControlPort
from attune.platform.registry.registry import Registry
from attune.reward.config import RewardSettings
from attune.reward.config import Triton as TritonSettings
from attune.reward.main import main
from support.processes import free_port
from tiny_models import tiny_reward_folder
from triton_server import Triton

MODEL = ModelName("rewards", "integration")
PAIRS = [(Prompt.user("Where is my order?"), "On its way."), (Prompt.user("Hi"), "Hello Ada, how can I help?")]


def settings(folder: Path, triton: Triton, **changed: object) -> RewardSettings:
    return RewardSettings(
        reward_model="integration",
        registry=str(folder / "registry"),
        cache_folder=str(folder / "cache"),
        app=AppPort(port=free_port()),
        control=ControlPort(port=free_port()),
        metrics_port=0,
        device="cpu",
        poll_interval_s=0.05,
        triton=TritonSettings(url=triton.url, repository=str(triton.repository)),
        **changed,
    )


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Two revisions, the first one stable."""
    made = Registry(tmp_path / "registry")
    epoch = made.take_epoch([MODEL], "test")
    for number in (1, 2):
        made.publish(MODEL.revision(number), tiny_reward_folder(tmp_path / str(number), seed=number), epoch=epoch)
    made.move_alias(MODEL, "stable", 1, epoch=epoch, actor="test", reason="")
    return made


async def scores(running: RewardSettings) -> tuple[float, ...]:
    """Normalised scores of the pairs by whatever is stable, and then the server is stopped."""
    stop = asyncio.Event()
    process = asyncio.create_task(main(running, stop))
    async with AsyncClient(app_id="test", reward_address=f"127.0.0.1:{running.app.port}", retry=NO_RETRY) as client:
        await client.wait_until_serving(120)
        found = (await client.score(PAIRS)).normalised
    stop.set()
    await process
    return tuple(found)


async def when_back(client: AsyncClient) -> str:
    """The revision of the first answer after the engine was away."""
    async with asyncio.timeout(60):
        while True:
            try:
                return (await client.score(PAIRS)).revision
            except EngineUnavailable as error:
                await asyncio.sleep(error.retry_after_s or 0)


@pytest.mark.triton
@pytest.mark.timeout(300)
async def test_both_engines_give_the_same_scores_over_the_wire(
    triton: Triton, tmp_path: Path, registry: Registry
) -> None:
    wanted = await scores(settings(tmp_path, triton))
    assert await scores(settings(tmp_path, triton, engine="triton")) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.triton
@pytest.mark.timeout(300)
async def test_it_waits_for_triton_swaps_and_outlives_it(triton: Triton, tmp_path: Path, registry: Registry) -> None:
    triton.kill()
    running, stop = settings(tmp_path, triton, engine="triton"), asyncio.Event()
    process = asyncio.create_task(main(running, stop))
    async with AsyncClient(app_id="test", reward_address=f"127.0.0.1:{running.app.port}", retry=NO_RETRY) as client:
        await asyncio.to_thread(triton.start)
        await client.wait_until_serving(120)
        assert (await client.score(PAIRS)).revision == str(MODEL.revision(1))
        epoch = registry.take_epoch([MODEL], "test")
        registry.move_alias(MODEL, "stable", 2, epoch=epoch, actor="test", reason="")
        async with asyncio.timeout(120):
            while (await client.score(PAIRS)).revision != str(MODEL.revision(2)):
                continue
        triton.kill()
        with pytest.raises(EngineUnavailable) as raised:
            await client.score(PAIRS)
        assert raised.value.retry_after_s
        await asyncio.to_thread(triton.start)
        assert await when_back(client) == str(MODEL.revision(2))
    stop.set()
    await process
