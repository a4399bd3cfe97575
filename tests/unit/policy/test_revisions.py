"""Policy revisions of a real registry: what goes live, what is refused, and that the old one serves on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attune.domain.errors import EpochSuperseded, RevisionUnknown
from support.spoilt import SPOILT, Spoil
from unit.policy.serving import Shop


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


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda f: f.__name__)
async def test_a_bad_checkpoint_is_refused_whole_and_the_old_one_serves_on(shop: Shop, spoil: Spoil) -> None:
    await shop.promote(good := shop.publish())
    bad = shop.publish(spoil)
    with pytest.raises(SPOILT[spoil]) as refusal:
        shop.revisions.preload(bad, shop.epoch)
    assert type(refusal.value) is SPOILT[spoil]
    await shop.promote(bad)
    assert (shop.revisions.loaded.live, shop.revisions.loaded.names) == (good, (good,))
    assert shop.went_live == [good]
    assert shop.sample("attune_policy_load_refused_total", reason=SPOILT[spoil].reason) == 2
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
