"""What policy and reward servers share of a swap, on made-up models: the rules without a network or weights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from attune.domain.errors import (
    CheckpointRefused,
    EngineUnavailable,
    RegistryCorrupt,
    RevisionNotLoaded,
    RevisionUnknown,
)
from attune.domain.revisions import ModelName, RevisionName
from attune.modeling.served import ServedRevisions, SwapMetrics
from attune.platform.registry.registry import Registry
from prometheus_client import CollectorRegistry
from tiny_models import tiny_tokenizer
from transformers import PreTrainedTokenizerFast

MODEL = ModelName("policies", "toy")


@dataclass
class Toy:
    tokenizer: PreTrainedTokenizerFast
    text: str


class Server:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = Registry(folder / "registry")
        self.epoch = self.registry.take_epoch([MODEL], "test")
        self.measured = CollectorRegistry()
        self.asked_hashes: list[str | None] = []
        self.served: ServedRevisions[Toy] = ServedRevisions(
            self.registry, MODEL, load=self._load, probe=self._probe, cache=folder / "cache",
            metrics=SwapMetrics("toy", self.measured), on_live=self._note, watched=self._watch,
        )  # fmt: skip
        self.went_live: list[str] = []
        self.engine_away = False
        self.watched = 0

    @contextmanager
    def _watch(self) -> Iterator[None]:
        yield
        self.watched += 1

    def _load(self, name: RevisionName, folder: Path, expected: str | None) -> Toy:
        self.asked_hashes.append(expected)
        return Toy(tiny_tokenizer(), (folder / "model.safetensors").read_text())

    def _probe(self, toy: Toy, name: str) -> None:
        if self.engine_away:
            raise EngineUnavailable("away")
        if "nan" in toy.text:
            raise CheckpointRefused(f"{name} is not finite")

    async def _note(self) -> None:
        self.went_live.append(self.served.loaded.live)

    async def promote(self, text: str) -> str:
        name = MODEL.revision(self.registry.next_number(MODEL))
        (self.folder / "next").mkdir(exist_ok=True)
        (self.folder / "next" / "model.safetensors").write_text(text)
        self.registry.publish(name, self.folder / "next", epoch=self.epoch)
        record = self.registry.move_alias(MODEL, "stable", name.number, epoch=self.epoch, actor="t", reason="")
        await self.served.follow(record)
        return str(name)

    def sample(self, name: str, **labels: str) -> float:
        return self.measured.get_sample_value(name, labels) or 0.0


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


async def test_the_first_tokenizer_binds_the_later_ones(server: Server) -> None:
    await server.promote("one")
    await server.promote("two")
    assert server.asked_hashes[0] is None
    assert server.asked_hashes[1]


async def test_it_tells_when_a_revision_was_made(server: Server) -> None:
    name = RevisionName.parse(await server.promote("one"))
    assert server.served.create_time(str(name)) == server.registry.manifest(name).create_time
    with pytest.raises(RevisionUnknown):
        server.served.create_time(str(MODEL.revision(7)))


async def test_a_refused_revision_leaves_everything_as_it_was(server: Server) -> None:
    good = await server.promote("one")
    bad = await server.promote("nan")
    assert server.went_live == [good]
    assert server.served.loaded.live == good
    with pytest.raises(CheckpointRefused):
        server.served.preload(bad, server.epoch)
    assert server.sample("attune_toy_load_refused_total", reason="CHECKPOINT_REFUSED") == 2
    assert server.sample("attune_toy_live_revision_number") == 1
    with pytest.raises(RevisionNotLoaded):
        server.served.loaded.get("2")


async def test_what_an_absent_engine_cannot_load_is_not_refused_but_asked_for_again(server: Server) -> None:
    server.engine_away = True
    with pytest.raises(EngineUnavailable):
        await server.promote("one")
    assert server.sample("attune_toy_swaps_total", outcome="refused") == 0
    server.engine_away = False
    record = server.registry.alias(MODEL, "stable")
    assert record is not None
    await server.served.follow(record)
    assert server.served.loaded.live == str(MODEL.revision(1))


def test_every_outcome_stands_from_the_start(server: Server) -> None:
    for outcome in ("swapped", "refused"):
        assert server.measured.get_sample_value("attune_toy_swaps_total", {"outcome": outcome}) == 0
    assert server.measured.get_sample_value("attune_toy_load_refused_total", {"reason": "CHECKPOINT_REFUSED"}) == 0


async def test_the_last_refusal_is_told_until_another_revision_is_taken(server: Server) -> None:
    await server.promote("one")
    assert server.served.refused is None
    bad = await server.promote("nan")
    assert server.served.refused is not None
    told = server.served.refused.to_proto()
    assert (told.revision, told.reason) == (bad, "CHECKPOINT_REFUSED")
    assert bad in told.message
    assert abs(told.refuse_time.seconds - time.time()) < 60
    await server.promote("two")
    assert server.served.refused is None


async def test_loads_and_moves_are_watched(server: Server) -> None:
    good = await server.promote("one")
    assert server.watched == 1
    server.served.preload(good, server.epoch)
    await server.promote("nan")
    assert server.watched == 3


async def test_following_the_same_again_changes_nothing(server: Server) -> None:
    await server.promote("one")
    record = server.registry.alias(MODEL, "stable")
    assert record is not None
    await server.served.follow(record)
    assert server.sample("attune_toy_swaps_total", outcome="swapped") == 1


def test_registry_errors_are_counted_by_reason(server: Server) -> None:
    metrics = SwapMetrics("other", server.measured)
    metrics.count_registry_error(RegistryCorrupt("torn"))
    metrics.count_registry_error(OSError("away"))
    for error in ("REGISTRY_CORRUPT", "OSError"):
        assert server.sample("attune_other_registry_errors_total", error=error) == 1


async def test_alias_files_that_cannot_be_read_are_shown(server: Server) -> None:
    await server.promote("one")
    server.registry.storage.create(f"{MODEL}/aliases/stable/{server.epoch}-9.json", b"{")
    assert server.registry.alias(MODEL, "stable").number == 1
    assert server.sample("attune_toy_torn_alias_files") == 1
