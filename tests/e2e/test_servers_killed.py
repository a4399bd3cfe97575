"""Policy and reward servers killed with -9 under traffic: calls fail only while their server is down, and succeed on
retry; what was said to be recorded is on the event log, and says there what the person was shown."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from attune.api.events.v1 import events_pb2
from attune.client import NO_RETRY
from attune.domain.errors import DeadlineExceeded, ServerUnavailable
from attune.domain.ids import uuid7
from attune.platform.events.log import Topic
from attune.platform.events.sqlite import SqliteEventLog
from e2e.system import System, publish_models, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
KILLS = 6


async def test_policy(tmp_path: Path) -> None:
    publish_models(tmp_path)
    recorded: dict[str, tuple[str, ...]] = {}
    refused: list[Exception] = []
    async with running(System(tmp_path)) as system:
        await system.start("policy")
        stop = asyncio.Event()

        async def ask(n: int) -> None:
            """One person after another; each asks until there is an answer."""
            async with system.client() as client, system.client(NO_RETRY) as impatient:
                while not stop.is_set():
                    id = uuid7()
                    try:
                        result = await impatient.generate(f"hello {n}", max_tokens=6, generation_id=id, timeout_s=20)
                    except (ServerUnavailable, DeadlineExceeded) as error:
                        refused.append(error)
                        result = await client.generate(f"hello {n}", max_tokens=6, generation_id=id, timeout_s=60)
                    if result.recorded:
                        assert id not in recorded
                        recorded[id] = result.texts
                    n += 7

        asking = [asyncio.create_task(ask(n)) for n in range(4)]
        await system.kill_at_random_moments("policy", KILLS, seed=3, longest_s=1.5)
        await system.supervisor.wait_until_serving(["policy"], 60)
        enough = len(recorded) + 10
        async with asyncio.timeout(60):
            while len(recorded) < enough:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        stop.set()
        await asyncio.gather(*asking)
    assert system.supervisor.restarts["policy"] >= KILLS
    assert refused
    consumer = SqliteEventLog(tmp_path / "events").consumer(Topic.GENERATIONS)
    batches, offset = [], 0
    while found := consumer.read(0, offset):
        batches += [events_pb2.GenerationBatch.FromString(record.value) for record in found]
        offset = found[-1].offset + 1
    on_log: dict[str, set[tuple[str, ...]]] = {}
    for generation in (g for batch in batches for g in batch.generations):
        on_log.setdefault(generation.id, set()).add(tuple(c.text for c in generation.completions))
    assert recorded.keys() <= on_log.keys()
    # One who asked again under the same id was answered as before, so the log says one thing of each id.
    assert all(on_log[id] == {texts} for id, texts in recorded.items())


async def test_reward(tmp_path: Path) -> None:
    publish_models(tmp_path)
    pairs = [(f"hello {i}", "good yes") for i in range(8)]
    async with running(System(tmp_path)) as system:
        await system.start("reward")
        async with system.client() as client:
            expected = await client.score(pairs)
            killing = asyncio.create_task(system.kill_at_random_moments("reward", KILLS, seed=4, longest_s=1.0))
            rounds = 0
            while not killing.done():
                found = await client.score(pairs, timeout_s=60)
                assert found.revision == expected.revision
                assert found.raw == pytest.approx(expected.raw, abs=1e-5)
                rounds += 1
            await killing
    assert rounds > KILLS
    assert system.supervisor.restarts["reward"] >= KILLS
