"""A real Prometheus beside `attune up`, with the rules that ship and every duration divided by 60.

People ask and say what they prefer, the trainer learns from it: nothing fires. Then what can go wrong is made to go
wrong: a torn revision, a join that hangs, a trainer whose settings drive the policy away from its reference, and one
that goes on to please its reward model while people begin to click at random.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from attune.client import AsyncClient, Comparison, FeedbackEvent, RetryPolicy, new_event
from attune.client.calls import AsyncConnection
from attune.domain.generations import Generation
from attune.domain.revisions import CANARY, ModelName
from attune.platform.registry.registry import Registry
from e2e.system import APP, TRAINER, preference, publish_models, record_generations
from support.eventually import eventually_sync
from support.prometheus import RULES, Prometheus, faster, read, running

pytestmark = [pytest.mark.slow, pytest.mark.prometheus, pytest.mark.timeout(600)]
SERVICES = ("policy", "reward", "ingest", "join", "trainer")
POLICY = ModelName("policies", "tiny")
FASTER = 60
REST_S, PATIENCE_S, HACKING_S, PAUSE_S = 75.0, 120.0, 300.0, 0.1
ANSWERS = 6000
GROUPS = [group for path in RULES for group in faster(read(path), FASTER)]


class Up:
    """`attune up` on models of two layers: where it listens, and the processes below it."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder, self._process = folder, process
        self.ports = json.loads((folder / "endpoints.json").read_text())

    def metrics(self) -> dict[str, str]:
        return {service: self.ports[service]["metrics"] for service in SERVICES}

    def client(self) -> AsyncClient:
        return AsyncClient(
            app_id=APP,
            policy_address=self.ports["policy"]["app"],
            feedback_address=self.ports["ingest"]["app"],
            retry=RetryPolicy(attempts=60, first_s=0.1),
        )

    async def wait_until_serving(self) -> None:
        for service in SERVICES:
            uses = self.ports[service]
            connection = AsyncConnection(uses.get("app", uses.get("control")))
            await connection.wait_until_serving(PATIENCE_S)
            await connection.close()

    def pid(self, service: str) -> int:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        named = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in children}
        (found,) = [pid for pid, words in named.items() if service.encode() in words]
        return int(found)


@contextmanager
def up(folder: Path, trainer: Sequence[str] = ()) -> Iterator[Up]:
    """Runs until the block ends. `trainer` are settings beside those of TRAINER."""
    settings = ["policy.policy=tiny", "policy.threads=1", "reward.reward_model=tiny", "reward.threads=1"]
    settings += [f"trainer.{setting}" for setting in (*TRAINER, *trainer)]
    command = [sys.executable, "-m", "attune.cli.main", "up", "--folder", str(folder), "--free-ports"]
    command += [part for setting in settings for part in ("--set", setting)]
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        eventually_sync(lambda: _has_endpoints(folder, process), PATIENCE_S)
        yield Up(folder, process)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def _has_endpoints(folder: Path, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, (folder / "up.log").read_text()
    written = folder / "endpoints.json"
    return written.exists() and written.read_text().endswith("}\n")


@dataclass
class Crowd:
    """People who ask, and say of answers given before which is better. A share of what they say is said at random."""

    answers: Sequence[Generation]
    random_share: float = 0.0

    async def talk(self, system: Up) -> None:
        """For as long as they are let."""
        async with system.client() as client:
            for i in count():
                await client.generate(f"hello {i % 500}", max_tokens=6, completions=2, subject_id=f"user-{i % 40}")
                await client.ingest([self.opinion(4 * i + j) for j in range(4)])
                await asyncio.sleep(PAUSE_S)

    def opinion(self, i: int) -> FeedbackEvent:
        answer = self.answers[i % len(self.answers)]
        chance = random.Random(i)
        if chance.random() >= self.random_share:
            return preference(answer)
        chosen, rejected = chance.sample([completion.id for completion in answer.completions], 2)
        return new_event(APP, Comparison(chosen, rejected), subject_id=answer.subject_id)


@asynccontextmanager
async def watched(folder: Path, trainer: Sequence[str] = ()) -> AsyncIterator[tuple[Up, Prometheus, Crowd]]:
    """A system with people, and a Prometheus that has scraped all of it."""
    publish_models(folder)
    crowd = Crowd(record_generations(folder, ANSWERS))
    with up(folder, trainer) as system:
        await system.wait_until_serving()
        talking = asyncio.create_task(crowd.talk(system))
        try:
            with running(folder / "prometheus", system.metrics(), GROUPS) as prometheus:
                await until(lambda: prometheus.targets_up() == set(SERVICES), talking)
                yield system, prometheus, crowd
        finally:
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)


async def until(
    condition: Callable[[], object], talking: asyncio.Task[None] | None = None, timeout_s: float = PATIENCE_S
) -> None:
    """Asks every half second; fails when patience ends, or the people do."""
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(condition):
            assert talking is None or not talking.done()
            await asyncio.sleep(0.5)


async def fired_during(prometheus: Prometheus, seconds: float) -> set[str]:
    """Names of all alerts that fired meanwhile."""
    found: set[str] = set()
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        found |= set(await asyncio.to_thread(prometheus.firing))
        await asyncio.sleep(0.5)
    return found


def publish_torn(folder: Path) -> None:
    """A revision whose weights end in the middle, under the alias canary, as a person with a bad disk would."""
    registry = Registry(folder / "registry")
    torn = folder / "torn"
    shutil.copytree(registry.fetch(POLICY.revision(1), folder / "fetched"), torn)
    (weights,) = torn.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1000])
    number, epoch = registry.next_number(POLICY), registry.newest_epoch(POLICY)
    registry.publish(POLICY.revision(number), torn, epoch=epoch)
    registry.move_alias(POLICY, CANARY, number, epoch=epoch, actor="test", reason="torn")


async def test_nothing_fires_at_rest_and_what_goes_wrong_does(tmp_path: Path) -> None:
    async with watched(tmp_path) as (system, prometheus, _):
        assert await fired_during(prometheus, REST_S) == set()
        steps = prometheus.query("sum(attune_training_steps_total)")
        assert float(steps[0]["value"][1]) > 0
        publish_torn(tmp_path)
        await until(lambda: "AttuneSwapFailing" in prometheus.firing())
        join = system.pid("join")
        os.kill(join, signal.SIGSTOP)
        try:
            await until(lambda: "AttuneJoinStopped" in prometheus.firing())
        finally:
            os.kill(join, signal.SIGCONT)
        await until(lambda: not prometheus.firing())


async def test_a_policy_that_leaves_its_reference_fires(tmp_path: Path) -> None:
    runaway = ["ppo.actor_lr=0.05", "ppo.kl_coefficient=0", "gate.kl_ceiling=2", "gate.alpha=0.000001"]
    async with watched(tmp_path, runaway) as (_, prometheus, _):
        await until(lambda: {"AttuneKlOverCeiling", "AttuneTrainingStopped"} <= set(prometheus.firing()))
        over = prometheus.firing()["AttuneKlOverCeiling"]
        assert float(over["value"]) > 2
        assert over["annotations"]["runbook_url"] == "deploy/runbooks/AttuneKlOverCeiling.md"


async def test_rewards_that_rise_while_people_are_heard_less_fire(tmp_path: Path) -> None:
    """Nothing holds the policy to its reference, and two fifths of the feedback begin to be clicks at random."""
    unheld = ["ppo.kl_coefficient=0", "ppo.actor_lr=0.001", "gate.kl_ceiling=1000000", "gate.alpha=0.000001"]
    unheld += ["max_ppo_steps_per_reward=1000", "reward.held_out_examples=100"]
    async with watched(tmp_path, unheld) as (_, prometheus, crowd):
        await until(lambda: prometheus.query("attune_reward_held_out_accuracy > 0.95"))
        crowd.random_share = 0.4
        await until(lambda: "AttuneRewardHacking" in prometheus.firing(), timeout_s=HACKING_S)
