"""Two trainer processes on one registry: the leader, stopped in the middle of a publication, is deposed and woken.

It must end without having moved an alias or spoilt a file, and the servers must not listen to it any more.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attune.client import NO_RETRY
from attune.client.control import AsyncPolicyControlClient, AsyncRewardControlClient, AsyncTrainerClient
from attune.domain.errors import EpochSuperseded
from attune.domain.generations import Generation
from attune.domain.revisions import ALIASES, AliasRecord, ModelName
from attune.platform.registry.registry import Registry
from e2e.system import System, preference, publish_models, record_generations, running, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
POLICY, REWARD = ModelName("policies", "tiny"), ModelName("rewards", "tiny")
WAVES, WAVE = 12, 60


class Trainer:
    """A trainer process with a state folder and a port of its own, beside the system's other services."""

    def __init__(self, system: System, name: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.log = system.folder / f"{name}.log"
        own = [f"state_folder={system.folder / name}", f"control.port={self.address.rpartition(':')[2]}"]
        settings = [*system.settings["trainer"], *own, "metrics_port=0"]
        command = [sys.executable, "-m", "attune.cli.main", "trainer"]
        self._command = command + [part for setting in settings for part in ("--set", setting)]

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        with self.log.open("wb") as log, subprocess.Popen(self._command, stdout=log, stderr=log) as process:
            try:
                yield process
            finally:
                process.kill()

    def client(self) -> AsyncTrainerClient:
        return AsyncTrainerClient(self.address)


async def feed(system: System, generations: Iterator[list[Generation]]) -> None:
    async with system.client() as client:
        await client.ingest([preference(g) for g in next(generations)])


def half_published(registry: Registry) -> list[str]:
    """Folders of revisions whose manifest is not there yet."""
    folders = [
        f for model in (POLICY, REWARD) for f in Path(f"{registry.storage.local_path(str(model))}/revisions").iterdir()
    ]
    return [str(folder) for folder in folders if not (folder / "manifest.json").exists()]


def stop_in_the_middle_of_a_publication(registry: Registry, process: subprocess.Popen[bytes]) -> str:
    """The folder that the stopped process was writing; "" if the publication ended before the signal came."""
    while process.poll() is None:
        if half_published(registry):
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            if found := half_published(registry):
                return found[0]
            process.send_signal(signal.SIGCONT)
            return ""
    raise AssertionError("the leader has ended by itself")


async def stopped_leader(system: System, process: subprocess.Popen[bytes], generations: Iterator[list]) -> str:
    """Feeds wave after wave until the signal falls into a publication."""
    folder = ""
    while not folder:
        await feed(system, generations)
        folder = await asyncio.to_thread(stop_in_the_middle_of_a_publication, system.registry, process)
    return folder


def heads(registry: Registry) -> list[AliasRecord | None]:
    return [registry.alias(model, alias) for model in (POLICY, REWARD) for alias in ALIASES]


async def test_a_leader_stopped_in_a_publication_and_deposed_moves_nothing(tmp_path: Path) -> None:
    publish_models(tmp_path)
    made = record_generations(tmp_path, WAVES * WAVE)
    waves = iter([made[i : i + WAVE] for i in range(0, len(made), WAVE)])
    async with running(System(tmp_path)) as system:
        registry = system.registry
        await system.start("ingest", "join", "policy", "reward")
        first, second = Trainer(system, "first"), Trainer(system, "second")
        with first.running() as leader, second.running() as successor:
            successor.send_signal(signal.SIGSTOP)  # loaded later, so that the first one leads at first
            async with first.client() as client:
                await client.wait_until_serving(120)
                old_epoch = (await client.status()).epoch
            folder = await stopped_leader(system, leader, waves)

            successor.send_signal(signal.SIGCONT)
            async with second.client() as client:
                await client.wait_until_serving(120)
                new_epoch = (await client.status()).epoch
                assert new_epoch > old_epoch

                for _ in range(3):  # enough held-out feedback for a gate to be sure
                    await feed(system, waves)

                async def has_promoted() -> bool:
                    return registry.alias(REWARD, "stable").position > (new_epoch, 1)

                await until(has_promoted, 120)
                await client.pause("so that only the deposed one could move anything")

                async def is_paused() -> bool:
                    return "only the deposed one" in (await client.status()).reason

                await until(is_paused, 120)
            before = heads(registry)
            leader.send_signal(signal.SIGCONT)
            assert await asyncio.to_thread(leader.wait, 120) == 1
            assert "superseded" in first.log.read_text() or "exists with other content" in first.log.read_text()
            assert heads(registry) == before
            assert {head.epoch for head in before if head} == {new_epoch}
            assert half_published(registry) in ([], [folder])
            for model in (POLICY, REWARD):
                for number in registry.revisions(model):
                    registry.fetch(model.revision(number), tmp_path / "fetched")  # every file is what its manifest says
            await refused_by_the_servers(system, old_epoch)
            assert successor.poll() is None


async def refused_by_the_servers(system: System, old_epoch: int) -> None:
    """A server that has heard of the new epoch listens to no older one."""
    async with AsyncRewardControlClient(system.address("reward", "control"), NO_RETRY) as reward:
        assert (await reward.status()).epoch > old_epoch
        with pytest.raises(EpochSuperseded):
            await reward.load_revision(str(REWARD.revision(1)), epoch=old_epoch)
    async with AsyncPolicyControlClient(system.address("policy", "control"), NO_RETRY) as policy:
        if (await policy.status()).epoch > old_epoch:
            with pytest.raises(EpochSuperseded):
                await policy.load_revision(str(POLICY.revision(1)), epoch=old_epoch)
