"""Bad revisions promoted under traffic: each is refused with its own reason, and no stream hears of it."""

from __future__ import annotations

import asyncio
import json
import shutil
import urllib.request
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from attune.cli.status import status as status_command
from attune.client import NO_RETRY, GenerationResult
from attune.client.control import AsyncPolicyControlClient
from attune.domain.errors import AttuneError, RegistryCorrupt
from attune.domain.generations import Generation
from attune.domain.revisions import STABLE
from attune.modeling.loading import load_policy, save_policy
from attune.platform.registry.registry import Registry
from benchmarks.labels import check
from click.testing import CliRunner
from e2e.system import System, publish_models, running, until
from prometheus_client.parser import text_string_to_metric_families
from support.learning import tiny_policy
from support.spoilt import SPOILT, WEIGHTS, Spoil
from support.training import POLICY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
STREAMS, MORE = 6, 30
WAIT_S = 30.0


class Traffic:
    """Streams, one after the other in each of a few tasks; what came whole, and what did not."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.whole: list[Generation] = []
        self.failed: list[AttuneError] = []

    async def _ask(self, number: int) -> None:
        async with self._system.client(NO_RETRY) as client:
            while True:
                try:
                    async with aclosing(client.stream(f"hello {number}", max_tokens=24)) as steps:
                        async for step in steps:
                            if isinstance(step, GenerationResult):
                                self.whole.append(step.generation)
                except AttuneError as error:
                    self.failed.append(error)
                number += STREAMS

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[Traffic]:
        asking = [asyncio.create_task(self._ask(number)) for number in range(STREAMS)]
        try:
            yield self
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def more(self) -> None:
        """Returns when some more streams have come whole that began after this was asked."""
        enough = len(self.whole) + STREAMS + MORE

        async def has_more() -> bool:
            return len(self.whole) >= enough

        await until(has_more, WAIT_S)


class Bench:
    """A policy server under traffic, and the registry that it follows."""

    def __init__(self, system: System, control: AsyncPolicyControlClient, traffic: Traffic) -> None:
        self.system, self.control, self.traffic = system, control, traffic
        self.registry = system.registry
        self.epoch = self.registry.take_epoch([POLICY], "test")

    def publish(self, spoil: Spoil = lambda folder: None) -> int:
        return self._publish(self.registry, self.epoch, spoil)

    def _publish(self, registry: Registry, epoch: int, spoil: Spoil) -> int:
        number = self.registry.next_number(POLICY)
        candidate, policy = self.system.folder / "candidate", tiny_policy(seed=number)
        save_policy(policy.model, policy.tokenizer, candidate)
        spoil(candidate)
        registry.publish(POLICY.revision(number), candidate, epoch=epoch)
        shutil.rmtree(candidate)
        return number

    def publish_altered(self) -> int:
        """Weights of which a byte is another than when they were published, as only the hash in the manifest tells."""
        elsewhere = Registry(self.system.folder / "elsewhere")
        number = self._publish(elsewhere, elsewhere.take_epoch([POLICY], "test"), lambda folder: None)
        name = str(POLICY.revision(number))
        (weights,) = (self.system.folder / "elsewhere" / name).rglob(WEIGHTS)
        content = bytearray(weights.read_bytes())
        content[-1] ^= 0x01
        weights.write_bytes(bytes(content))
        shutil.copytree(self.system.folder / "elsewhere" / name, self.system.folder / "registry" / name)
        return number

    def promote(self, number: int) -> None:
        self.registry.move_alias(POLICY, STABLE, number, epoch=self.epoch, actor="test", reason="")

    async def refusals(self, reason: str) -> float:
        """How often a revision was refused for this reason, named by an alias or a call."""
        return await asyncio.to_thread(self._figure, "attune_policy_load_refused_total", reason=reason)

    async def until_refused(self, reason: str, times: float) -> None:
        async def is_refused() -> bool:
            return await self.refusals(reason) == times

        await until(is_refused, WAIT_S)

    def _figure(self, name: str, **labels: str) -> float:
        url = f"http://{self.system.address('policy', 'metrics')}/metrics"
        with urllib.request.urlopen(url, timeout=10) as page:
            families = list(text_string_to_metric_families(page.read().decode()))
        samples = [sample for family in families for sample in family.samples]
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    async def torn_alias_files(self) -> float:
        return await asyncio.to_thread(self._figure, "attune_policy_torn_alias_files")

    async def said(self) -> dict:
        """What `attune status --json` says of the policy server."""
        where = ["--policy-control-address", self.system.address("policy", "control")]
        done = await asyncio.to_thread(CliRunner().invoke, status_command, [*where, "--json", "--timeout", "5"])
        return next(row for row in json.loads(done.stdout) if row["service"] == "policy")["facts"]

    async def check_refused(self, number: int, error: type[AttuneError], live: str) -> None:
        """By the call that preloads it, by the alias that names it, in the figures and in what status says."""
        name, before = str(POLICY.revision(number)), await self.refusals(error.reason)
        with pytest.raises(error) as refusal:
            await self.control.load_revision(name)
        assert (refusal.value.status, refusal.value.reason) == (error.status, error.reason)
        self.promote(number)
        await self.until_refused(error.reason, before + 2)
        said = await self.said()
        assert (said["refused"]["revision"], said["refused"]["reason"]) == (name, error.reason)
        assert said["refused"]["message"]
        assert said["live_revision"] == live
        await self.traffic.more()


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Bench]:
    publish_models(folder)
    system = System(folder)
    system.settings["policy"] += ["poll_interval_s=0.05"]
    async with running(system):
        await system.start("policy")
        control_address = system.address("policy", "control")
        async with AsyncPolicyControlClient(control_address, NO_RETRY) as control, Traffic(system).flowing() as traffic:
            yield Bench(system, control, traffic)


async def go_live(bench: Bench, number: int) -> None:
    bench.promote(number)
    name = str(POLICY.revision(number))

    async def is_live() -> bool:
        return (await bench.control.status()).live_revision == name

    await until(is_live, WAIT_S)
    assert (await bench.said())["refused"] is None


async def test_each_is_refused_with_its_reason_and_no_request_fails(tmp_path: Path) -> None:
    async with serving(tmp_path) as bench:
        live = str(POLICY.revision(1))
        await bench.traffic.more()
        for spoil, error in SPOILT.items():
            before = await bench.refusals(error.reason)
            bad = bench.publish(spoil)
            await bench.until_refused(error.reason, before + 1)  # as latest
            await bench.check_refused(bad, error, live)
        await go_live(bench, good := bench.publish())
        live = str(POLICY.revision(good))

        await bench.check_refused(bench.publish_altered(), RegistryCorrupt, live)
        assert bench.traffic.failed == []
        served = bench.traffic.whole
    names = {generation.revision for generation in served}
    assert names == {str(POLICY.revision(1)), live}
    folder = tmp_path / "cache"
    policies = {
        name: load_policy(bench.registry.fetch(POLICY.revision(int(name.rpartition("/")[2])), folder)) for name in names
    }
    assert check(served, policies).mislabelled == frozenset()


async def test_a_half_written_alias_is_ignored_and_shown(tmp_path: Path) -> None:
    async with serving(tmp_path) as bench:
        one, two = str(POLICY.revision(1)), bench.publish()
        head = bench.registry.alias(POLICY, STABLE)
        assert head is not None
        content = head.to_json()
        path = f"{POLICY}/aliases/{STABLE}/{bench.epoch}-{head.sequence + 1}.json"
        bench.registry.storage.create(path, content[: len(content) // 2])

        async def is_seen() -> bool:
            return await bench.torn_alias_files() == 1

        await until(is_seen, WAIT_S)
        said = await bench.said()
        assert (said["live_revision"], said["torn_alias_files"], said["refused"]) == (one, 1, None)
        await bench.traffic.more()
        await go_live(bench, two)
        await bench.traffic.more()
        assert bench.traffic.failed == []
        assert bench.traffic.whole[-1].revision == str(POLICY.revision(two))
