"""A whole system of real processes on one folder, with models of two layers and people who like "good yes"."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from attune.api.events.v1 import events_pb2
from attune.cli.supervisor import Endpoints, Supervisor, settings_of
from attune.client import AsyncClient, Comparison, FeedbackEvent, RetryPolicy, new_event
from attune.client.control import AsyncTrainerClient
from attune.domain.generations import Completion, FinishReason, Generation, Purpose, RevisionSpan, Sampling
from attune.domain.ids import uuid7
from attune.domain.prompts import Prompt
from attune.platform.events.log import Topic
from attune.platform.events.sqlite import SqliteEventLog
from attune.platform.registry.registry import Registry
from support.training import publish_first

APP = "app"
START_TIMEOUT_S = 120.0
TRAINER = [
    "policy=tiny", "reward_model=tiny", "gate_model=tiny-gate", "threads=1", "poll_interval_s=0.05",
    "prompts_interval_s=1", "max_ppo_steps_per_reward=6", "keep_inputs=1000",
    "reward.new_examples=30", "reward.interval_s=3600", "reward.steps=6", "reward.gate_steps=6", "reward.batch_size=16",
    "reward.lr=0.003", "rollouts.prompts=4", "rollouts.completions=2", "rollouts.max_tokens=6",
    "rollouts.min_prompts=4", "gate.prompts=8", "gate.kl_ceiling=50",
]  # fmt: skip
PATIENT = RetryPolicy(attempts=60, first_s=0.1)


class System:
    """One folder, its services, and what happened in it."""

    def __init__(self, folder: Path, trainer: Sequence[str] = ()) -> None:
        self.folder = folder
        self.endpoints = Endpoints.free()
        settings = settings_of(folder, self.endpoints, cores=1)
        settings["policy"] += ["policy=tiny"]
        settings["reward"] += ["reward_model=tiny"]
        settings["trainer"] += [*TRAINER, *trainer]
        self.settings = settings
        self.registry = Registry(folder / "registry")
        self.supervisor = Supervisor(folder, self.endpoints, settings, lambda line: None, pauses_s=(0.05, 0.05))

    def address(self, service: str, use: str) -> str:
        return self.endpoints.address(service, use)

    def trainer(self) -> AsyncTrainerClient:
        return AsyncTrainerClient(self.address("trainer", "control"))

    def client(self, retry: RetryPolicy = PATIENT) -> AsyncClient:
        return AsyncClient(
            app_id=APP,
            policy_address=self.address("policy", "app"),
            feedback_address=self.address("ingest", "app"),
            reward_address=self.address("reward", "app"),
            retry=retry,
        )

    async def start(self, *services: str) -> None:
        self.supervisor.start(services)
        await self.supervisor.wait_until_serving(services, START_TIMEOUT_S)

    def kill(self, service: str) -> bool:
        """kill -9; False if it does not run just now."""
        pid = self.supervisor.pid(service)
        if pid is None:
            return False
        os.kill(pid, signal.SIGKILL)
        return True

    async def kill_at_random_moments(
        self, service: str, times: int, seed: int, longest_s: float, state: Callable[[], object] = lambda: None
    ) -> list[Any]:
        """Each time after it served, some moments later, so that every life gets somewhere and ends anywhere.

        Returns what `state` said right after each kill."""
        rng = random.Random(seed)
        states: list[Any] = []
        while len(states) < times:
            await self.supervisor.wait_until_serving([service], START_TIMEOUT_S)
            await asyncio.sleep(rng.uniform(0.0, longest_s))
            if self.kill(service):
                states.append(state())
            await asyncio.sleep(0.1)
        return states


@asynccontextmanager
async def running(system: System) -> AsyncIterator[System]:
    try:
        yield system
    finally:
        await system.supervisor.stop()


def publish_models(folder: Path) -> None:
    publish_first(Registry(folder / "registry"), folder / "first")
    shutil.rmtree(folder / "first")


def record_generations(folder: Path, n: int) -> list[Generation]:
    """Answers that were given before the system is looked at, half of them good; on the event log."""
    made = []
    for i in range(n):
        id = uuid7()
        completions = tuple(
            Completion(f"{id}/{j}", text, (5, 1), (-1.0, -1.0), FinishReason.EOS,
                       (RevisionSpan("policies/tiny/revisions/1", 0, 2),))
            for j, text in enumerate(("good yes", "bad no"))
        )  # fmt: skip
        prompt, sampling = Prompt.user(f"hello {i}"), Sampling(max_tokens=6, seed=i, completions=2)
        made.append(Generation(id, APP, f"user-{i % 40}", prompt, (5,), completions, "policies/tiny/revisions/1",
                               sampling, Purpose.USER, 1_700_000_000.0))  # fmt: skip
    producer = SqliteEventLog(folder / "events").producer(Topic.GENERATIONS)
    producer.append([events_pb2.GenerationBatch(generations=[g.to_proto() for g in made]).SerializeToString()])
    producer.close()
    return made


def preference(generation: Generation) -> FeedbackEvent:
    """The person of a generation says that "good yes" is better."""
    good, bad = (c.id for c in generation.completions)
    return new_event(APP, Comparison(good, bad), subject_id=generation.subject_id)


async def until(condition: Callable[[], object], timeout_s: float, every_s: float = 0.05) -> None:
    """Awaits what `condition()` gives until it is true; asks every `every_s`."""
    async with asyncio.timeout(timeout_s):
        while True:
            if await condition():  # type: ignore[misc]
                return
            await asyncio.sleep(every_s)
