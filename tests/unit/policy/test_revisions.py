"""Policy revisions of a real registry: what goes live, what is refused, and that the old one serves on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from attune.domain.errors import CheckpointRefused, EpochSuperseded, RevisionUnknown
from attune.modeling.tokenizer import train_tokenizer
from safetensors.torch import load_file, save_file
from unit.policy.serving import Shop


def truncated(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def not_finite(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def wrong_shape(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name, tensor in tensors.items() if tensor.dim() == 2)
    save_file(tensors | {name: tensors[name][:, :-1].contiguous()}, folder / "model.safetensors", {"format": "pt"})


def other_tokenizer(folder: Path) -> None:
    train_tokenizer(["quite other words"] * 4, vocabulary=280).save_pretrained(str(folder), save_jinja_files=False)


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def overflowing(folder: Path) -> None:
    """Finite weights whose products are not."""
    tensors = load_file(folder / "model.safetensors")
    huge = {name: t * 3e38 if "norm" in name else t for name, t in tensors.items()}
    save_file(huge, folder / "model.safetensors", {"format": "pt"})


BAD = [truncated, not_finite, wrong_shape, other_tokenizer, no_tokenizer, pickled, overflowing]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


async def test_stable_goes_live_and_the_previous_stays(shop: Shop) -> None:
    one, two = shop.publish(), shop.publish()
    for name in (one, two, two):
        await shop.promote(name)
    assert shop.went_live == [one, two]
    assert shop.revisions.loaded.names == (one, two)
    assert shop.sample("attune_policy_swaps_total", outcome="swapped") == 2
    assert shop.sample("attune_policy_revision_info", revision=two) == 1
    assert shop.sample("attune_policy_revision_info", revision=one) == 0
    assert shop.sample("attune_policy_live_revision_number") == 2


@pytest.mark.parametrize("spoil", BAD, ids=lambda f: f.__name__)
async def test_a_bad_checkpoint_is_refused_whole_and_the_old_one_serves_on(
    shop: Shop, spoil: Callable[[Path], None]
) -> None:
    await shop.promote(good := shop.publish())
    bad = shop.publish(spoil)
    with pytest.raises(CheckpointRefused):
        shop.revisions.preload(bad, shop.epoch)
    await shop.promote(bad)
    assert (shop.revisions.loaded.live, shop.revisions.loaded.names) == (good, (good,))
    assert shop.went_live == [good]
    assert shop.sample("attune_policy_load_refused_total", reason="CHECKPOINT_REFUSED") == 2
    assert shop.sample("attune_policy_swaps_total", outcome="refused") == 1
    await shop.promote(after := shop.publish())
    assert shop.revisions.loaded.live == after


async def test_a_file_that_is_not_what_the_manifest_says_is_refused(shop: Shop) -> None:
    await shop.promote(good := shop.publish())
    bad = shop.publish()
    (weights,) = (shop.folder / "registry" / bad).rglob("model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    await shop.promote(bad)
    assert shop.revisions.loaded.live == good
    assert shop.sample("attune_policy_load_refused_total", reason="REGISTRY_CORRUPT") == 1


async def test_preloading(shop: Shop) -> None:
    await shop.promote(one := shop.publish())
    two = shop.publish()
    assert shop.revisions.preload(two, shop.epoch) > 0
    assert shop.revisions.loaded.live == one
    assert shop.revisions.loaded.get("2").name == two
    shop.revisions.preload(two, shop.epoch + 1)
    with pytest.raises(EpochSuperseded):
        shop.revisions.preload(two, shop.epoch)
    with pytest.raises(RevisionUnknown):
        shop.revisions.preload("99", 0)


def test_a_manifest_is_plain_json(shop: Shop) -> None:
    name = shop.publish()
    (manifest,) = (shop.folder / "registry" / name).rglob("manifest.json")
    assert "files" in json.loads(manifest.read_text())
