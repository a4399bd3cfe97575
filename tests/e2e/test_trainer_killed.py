"""The trainer as a process, killed with -9 at random moments: the same weights, and no example counted twice.

The first run is live and keeps every step's input. Two more start from the same first revisions and replay these
inputs, one in peace and one killed twenty times; all three must end with the same bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import shutil
import time
from itertools import pairwise
from pathlib import Path

import pytest
from attune.api.trainer.v1 import trainer_pb2
from attune.client.control import AsyncFeedbackControlClient
from attune.domain.errors import AttuneError
from attune.domain.revisions import ModelName
from attune.platform.registry.registry import Registry
from attune.trainer.examples import Role, Split
from e2e.system import System, preference, publish_models, record_generations, running, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
POLICY, REWARD = ModelName("policies", "tiny"), ModelName("rewards", "tiny")
WAVES, WAVE, KILLS = 7, 60, 20


async def step_of(system: System) -> tuple[int, str]:
    """(finished steps, why it idles) of the trainer; (-1, "") while it is away."""
    async with system.trainer() as trainer:
        try:
            status = await trainer.status(timeout_s=2.0)
        except AttuneError:
            return -1, ""
    return status.step, status.reason if status.phase == trainer_pb2.PHASE_IDLE else ""


async def feed(system: System, generations: list, waves: int = WAVES, kills: int = 0) -> None:
    """Waves of preferences, each after the steps that the one before has caused, and spread over the kills."""
    async with system.client() as client:
        for wave in range(waves):

            async def is_due(restarts: int = wave * kills // waves) -> bool:
                return system.supervisor.restarts["trainer"] >= restarts

            await until(is_due, 240)
            before, _ = await step_of(system)
            await client.ingest([preference(g) for g in generations[wave * WAVE : (wave + 1) * WAVE]])

            async def has_learned(before: int = before) -> bool:
                step, reason = await step_of(system)
                return step > before and bool(reason)

            await until(has_learned, 240)


def weights(folder: Path) -> dict[str, str]:
    """The hash of every weight file of every revision, and of the learners' last checkpoint."""
    registry = Registry(folder / "registry")
    found: dict[str, str] = {}
    for model in (POLICY, REWARD):
        for number in registry.revisions(model):
            manifest = registry.manifest(model.revision(number))
            found |= {f"{model}/{number}/{name}": file.sha256 for name, file in manifest.files.items()}
    current = json.loads((folder / "trainer" / "current.json").read_text())
    for piece in current["pieces"].values():
        for path in sorted((folder / "trainer" / "pieces" / piece).rglob("*.safetensors")):
            found[f"{piece}/{path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def finished_steps(folder: Path) -> int:
    """How far the trainer's checkpoint is; 0 before the first."""
    current = folder / "trainer" / "current.json"
    return json.loads(current.read_text())["step"] if current.exists() else 0


async def kill_along_the_work(system: System, steps: int, kills: int, step_s: float) -> list[int]:
    """Kill the trainer `kills` times, each in another part of `steps`, up to `step_s` after a step; where it stood."""
    rng = random.Random(1)
    at: list[int] = []
    while len(at) < kills:
        wanted = steps * (len(at) + rng.random()) / (kills + 1)

        async def has_got_there(wanted: float = wanted) -> bool:
            return finished_steps(system.folder) >= wanted

        await until(has_got_there, 120, every_s=0.002)
        await asyncio.sleep(rng.uniform(0.0, step_s))
        if system.kill("trainer"):
            at.append(finished_steps(system.folder))
        await asyncio.sleep(0.1)
    return at


async def replay(
    live: Path, snapshot: Path, folder: Path, steps: int, kills: int = 0, step_s: float = 0.0
) -> tuple[System, float]:
    """A system on the first revisions of `live` whose trainer replays the inputs of `live`, killed on the way; and the
    seconds that it served. A step takes about `step_s`."""
    shutil.copytree(snapshot, folder)
    shutil.copytree(live / "trainer" / "inputs", folder / "trainer" / "inputs")
    for name in ("join.db", "events"):
        source = live / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    async with running(System(folder, ["only_saved_inputs=true"])) as system:
        await system.start("join", "trainer")
        began = time.monotonic()
        at = await kill_along_the_work(system, steps, kills, step_s)
        assert sum(step < steps for step in at) >= 0.7 * kills, f"many kills came when all was done: {at}"

        async def is_done() -> bool:
            step, reason = await step_of(system)
            return step >= steps and "has done the last one" in reason

        await until(is_done, 300)
    return system, time.monotonic() - began


async def test_killed_twenty_times_it_ends_with_the_same_weights(tmp_path: Path) -> None:
    live, snapshot = tmp_path / "live", tmp_path / "snapshot"
    live.mkdir()
    publish_models(live)
    shutil.copytree(live, snapshot)
    generations = record_generations(live, WAVES * WAVE)
    async with running(System(live)) as system:
        await system.start("ingest", "join", "policy", "reward", "trainer")
        await feed(system, generations)
        steps, _ = await step_of(system)
    assert steps >= 30
    assert len(Registry(live / "registry").revisions(POLICY)) >= 6
    expected = weights(live)
    _, took_s = await replay(live, snapshot, tmp_path / "in-peace", steps)
    assert weights(tmp_path / "in-peace") == expected
    killed, _ = await replay(live, snapshot, tmp_path / "killed", steps, KILLS, step_s=took_s / steps)
    assert killed.supervisor.restarts["trainer"] >= KILLS
    assert weights(tmp_path / "killed") == expected


async def test_killed_while_live_every_example_counts_once_and_lineage_has_no_gap(tmp_path: Path) -> None:
    publish_models(tmp_path)
    generations = record_generations(tmp_path, WAVES * WAVE)
    async with running(System(tmp_path)) as system:
        await system.start("ingest", "join", "policy", "reward", "trainer")
        feeding = asyncio.create_task(feed(system, generations, kills=KILLS))
        at = await system.kill_at_random_moments(
            "trainer", KILLS, seed=2, longest_s=2.0, state=lambda: finished_steps(tmp_path)
        )
        await feeding

        async def has_restarted() -> bool:
            return system.supervisor.restarts["trainer"] >= KILLS

        await until(has_restarted, 60)  # also after the last kill
        async with AsyncFeedbackControlClient(system.address("join", "control")) as join:
            page = await join.read_examples(page_size=1000)
        sequences = [example.sequence for example in page.examples]
    assert len(set(at)) > KILLS / 3, f"the kills fell into few steps: {at}"
    assert sequences == list(range(1, len(generations) + 1))
    registry = Registry(tmp_path / "registry")
    promoted = [record.number for record in reversed(registry.history(REWARD, "stable")) if record.number]
    chain = list(dict.fromkeys(promoted))
    learned: list[int] = []
    for parent, number in pairwise(chain):
        manifest = registry.manifest(REWARD.revision(number))
        assert manifest.parent == parent
        for first, last in json.loads(manifest.details["new_examples"]):
            learned += range(first, last + 1)
    split = Split()
    of_reward = [
        i for i, g in enumerate(generations, start=1) if split.role("app", preference(g).subject_id) is Role.REWARD
    ]
    assert learned == of_reward[: len(learned)]  # each once, none left out
    assert len(learned) > 0.8 * len(of_reward)  # the last few may wait for the next update
    served = {record.number for record in registry.history(POLICY, "stable")}
    for number in registry.revisions(POLICY)[1:]:
        manifest = registry.manifest(POLICY.revision(number))
        assert manifest.parent in served
        assert manifest.parent < number
        assert manifest.reward_revision in {str(REWARD.revision(n)) for n in chain}
    assert registry.revisions(POLICY) == list(range(1, len(registry.revisions(POLICY)) + 1))
