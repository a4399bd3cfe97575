"""Pruning deletes weights that nothing needs, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from attune.domain.errors import InvalidInput, RevisionUnknown
from attune.domain.revisions import ModelName
from attune.platform.registry.prune import prune
from attune.platform.registry.registry import Registry


@pytest.fixture
def epoch(registry: Registry, model: ModelName, folder: Callable[[str], Path]) -> int:
    """Eight revisions; stable went 2 → 3, latest is 8 after 7."""
    epoch = registry.take_epoch([model], "me")
    for number in range(1, 9):
        registry.publish(model.revision(number), folder(f"weights {number}"), epoch=epoch)
    for number in (2, 3):
        registry.move_alias(model, "stable", number, epoch=epoch, actor="me", reason="")
    return epoch


def test_a_dry_run_tells_and_deletes_nothing(registry: Registry, model: ModelName, epoch: int) -> None:
    before = registry.storage.files("")
    assert prune(registry, model, keep_last=1, dry_run=True) == [1, 4, 5, 6]
    assert registry.storage.files("") == before


def test_aliased_last_and_named_revisions_stay_whole(
    registry: Registry, model: ModelName, epoch: int, tmp_path: Path
) -> None:
    assert prune(registry, model, keep_last=3, also_keep=[4]) == [1, 5]
    for number in (2, 3, 4, 6, 7, 8):
        assert not registry.is_pruned(model.revision(number))
        registry.fetch(model.revision(number), tmp_path)


def test_a_pruned_revision_keeps_its_manifest_and_can_be_neither_fetched_nor_aliased(
    registry: Registry, model: ModelName, epoch: int, tmp_path: Path
) -> None:
    prune(registry, model, keep_last=1)
    name = model.revision(1)
    assert registry.is_pruned(name)
    assert registry.manifest(name).files["model.safetensors"].size == len("weights 1")
    left = [path.rpartition("/")[2] for path in registry.storage.files(str(name))]
    assert sorted(left) == ["config.json", "manifest.json", "pruned.json", "vocabulary.txt"]
    with pytest.raises(RevisionUnknown, match="pruned"):
        registry.fetch(name, tmp_path)
    with pytest.raises(RevisionUnknown, match="pruned"):
        registry.move_alias(model, "stable", 1, epoch=epoch, actor="me", reason="")
    assert registry.next_number(model) == 9


def test_pruning_again_finds_nothing_and_finishes_what_was_cut_short(
    registry: Registry, model: ModelName, epoch: int
) -> None:
    registry.storage.create(f"{model.revision(1)}/pruned.json", b"{}")
    assert prune(registry, model, keep_last=4) == [1, 4]
    assert prune(registry, model, keep_last=4) == []


def test_at_least_the_last_revision_stays(registry: Registry, model: ModelName) -> None:
    with pytest.raises(InvalidInput):
        prune(registry, model, keep_last=0)
