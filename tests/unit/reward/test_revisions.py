"""Reward revisions of a real registry: what goes live, what is refused, and that the old one serves on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from attune.domain.errors import (
    AttuneError,
    CheckpointMisshapen,
    CheckpointNotFinite,
    CheckpointRefused,
    CheckpointTruncated,
    EpochSuperseded,
    RevisionUnknown,
    TokenizerDiffers,
)
from attune.domain.revisions import ModelName
from attune.platform.registry.registry import Registry
from attune.reward.engine import TransformersEngine
from attune.reward.metrics import RewardMetrics
from attune.reward.revisions import reward_revisions
from prometheus_client import CollectorRegistry
from safetensors.torch import load_file, save_file
from support.spoilt import Spoil, not_finite, other_tokenizer, truncated

MODEL = ModelName("rewards", "support")


def wrong_shape(folder: Path) -> None:
    head = load_file(folder / "reward_head.safetensors")
    save_file({"weight": head["weight"][:, :-1].contiguous(), "bias": head["bias"]}, folder / "reward_head.safetensors")


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    (folder / "reward_head.safetensors").unlink()


def no_reward_model(folder: Path) -> None:
    (folder / "attune.json").write_text(json.dumps({"kind": "policy"}))


BAD: dict[Spoil, type[AttuneError]] = {
    truncated: CheckpointTruncated,
    not_finite: CheckpointNotFinite,
    wrong_shape: CheckpointMisshapen,
    other_tokenizer: TokenizerDiffers,
    pickled: CheckpointRefused,
    no_reward_model: CheckpointRefused,
}


class Shop:
    """A registry whose stable is moved as a trainer would, and a server's view of it."""

    def __init__(self, tmp_path: Path, good: Path) -> None:
        self.tmp_path, self.good = tmp_path, good
        self.registry = Registry(tmp_path / "registry")
        self.epoch = self.registry.take_epoch([MODEL], "test")
        self.measured = CollectorRegistry()
        self.went_live: list[str] = []
        self.revisions = reward_revisions(
            self.registry,
            MODEL,
            TransformersEngine(),
            cache=tmp_path / "cache",
            metrics=RewardMetrics(self.measured),
            on_live=self._note_live,
        )

    async def _note_live(self) -> None:
        self.went_live.append(self.revisions.loaded.live)

    def publish(self, spoil: Callable[[Path], None] | None = None) -> str:
        name = MODEL.revision(self.registry.next_number(MODEL))
        folder = self.tmp_path / f"candidate-{name.number}"
        shutil.copytree(self.good, folder)
        (folder / "note.txt").write_text(str(name))
        if spoil:
            spoil(folder)
        self.registry.publish(name, folder, epoch=self.epoch)
        return str(name)

    async def promote(self, name: str) -> None:
        number = int(name.rpartition("/")[2])
        record = self.registry.move_alias(MODEL, "stable", number, epoch=self.epoch, actor="test", reason="")
        await self.revisions.follow(record)

    def sample(self, name: str, **labels: str) -> float:
        return self.measured.get_sample_value(name, labels) or 0.0


@pytest.fixture
def shop(tmp_path: Path, tiny_reward: Path) -> Shop:
    return Shop(tmp_path, tiny_reward)


async def test_stable_goes_live_and_the_previous_stays(shop: Shop) -> None:
    one, two = shop.publish(), shop.publish()
    await shop.promote(one)
    await shop.promote(two)
    await shop.promote(two)
    assert shop.went_live == [one, two]
    assert shop.revisions.loaded.names == (one, two)
    assert shop.sample("attune_reward_swaps_total", outcome="swapped") == 2
    assert shop.sample("attune_reward_revision_info", revision=two) == 1
    assert shop.sample("attune_reward_revision_info", revision=one) == 0


@pytest.mark.parametrize("spoil", BAD, ids=lambda f: f.__name__)
async def test_a_bad_checkpoint_is_refused_whole_and_the_old_one_serves_on(
    shop: Shop, spoil: Callable[[Path], None]
) -> None:
    await shop.promote(good := shop.publish())
    bad = shop.publish(spoil)
    with pytest.raises(BAD[spoil]):
        shop.revisions.preload(bad, shop.epoch)
    await shop.promote(bad)
    assert shop.revisions.loaded.live == good
    assert shop.revisions.loaded.names == (good,)
    assert shop.went_live == [good]
    assert shop.sample("attune_reward_load_refused_total", reason=BAD[spoil].reason) == 2
    assert shop.sample("attune_reward_swaps_total", outcome="refused") == 1
    await shop.promote(after := shop.publish())
    assert shop.revisions.loaded.live == after


async def test_a_file_that_is_not_what_the_manifest_says_is_refused(shop: Shop) -> None:
    await shop.promote(good := shop.publish())
    bad = shop.publish()
    (weights,) = (shop.tmp_path / "registry" / bad).rglob("model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    await shop.promote(bad)
    assert shop.revisions.loaded.live == good
    assert shop.sample("attune_reward_load_refused_total", reason="REGISTRY_CORRUPT") == 1


async def test_preloading(shop: Shop) -> None:
    await shop.promote(one := shop.publish())
    two = shop.publish()
    assert shop.revisions.preload(two, shop.epoch) > 0
    assert shop.revisions.loaded.live == one
    assert shop.revisions.loaded.get(two).name == two
    shop.revisions.preload(two, shop.epoch + 1)
    with pytest.raises(EpochSuperseded):
        shop.revisions.preload(two, shop.epoch)
    with pytest.raises(RevisionUnknown):
        shop.revisions.preload("99", 0)
