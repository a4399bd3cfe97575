"""Revisions: published once, fetched as published, never half."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from attune.domain.errors import (
    AlreadyPublished,
    EpochSuperseded,
    InvalidInput,
    NoRevision,
    RegistryCorrupt,
    RevisionUnknown,
)
from attune.domain.revisions import ModelName
from attune.platform.registry.registry import Registry
from attune.platform.registry.storage import Storage

Folder = Callable[[str], Path]


def contents(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_an_empty_registry_says_so(registry: Registry, model: ModelName) -> None:
    assert (registry.revisions(model), registry.next_number(model)) == ([], 1)
    assert registry.alias(model, "stable") is None
    for selector in ("stable", "latest"):
        with pytest.raises(NoRevision):
            registry.resolve(model, selector)
    with pytest.raises(RevisionUnknown):
        registry.resolve(model, "7")
    with pytest.raises(RevisionUnknown):
        registry.manifest(model.revision(1))


def test_what_is_published_is_fetched(registry: Registry, model: ModelName, folder: Folder, tmp_path: Path) -> None:
    epoch = registry.take_epoch([model], "me")
    source = folder("weights")
    written = registry.publish(
        model.revision(1),
        source,
        epoch=epoch,
        reward_revision="rewards/support/revisions/3",
        example_sequence=42,
        step=5,
        metrics={"kl": 0.25},
        details={"tokenizer_sha256": "abc"},
    )
    manifest = registry.manifest(model.revision(1))
    assert manifest == written
    assert (manifest.epoch, manifest.parent, manifest.example_sequence, manifest.step) == (epoch, None, 42, 5)
    assert set(manifest.files) == {"model.safetensors", "config.json", "nested/vocabulary.txt"}
    fetched = registry.fetch(model.revision(1), tmp_path / "fetched")
    assert contents(fetched) == contents(source)
    assert (registry.revisions(model), registry.next_number(model)) == ([1], 2)


def test_publishing_points_latest_and_makes_nothing_live(registry: Registry, model: ModelName, folder: Folder) -> None:
    epoch = registry.take_epoch([model], "me")
    for number in (1, 2):
        registry.publish(model.revision(number), folder(str(number)), epoch=epoch)
    assert {alias: head.number for alias, head in registry.aliases(model).items()} == {"latest": 2}
    with pytest.raises(RevisionUnknown):
        registry.resolve(model, "stable")


def test_publishing_the_same_again_changes_nothing(registry: Registry, model: ModelName, folder: Folder) -> None:
    epoch = registry.take_epoch([model], "me")
    first = registry.publish(model.revision(1), folder("one"), epoch=epoch, metrics={"kl": 1.0})
    registry.publish(model.revision(2), folder("two"), epoch=epoch)
    before = registry.storage.files("")
    again = registry.publish(model.revision(1), folder("one"), epoch=epoch, metrics={"kl": 2.0})
    assert again == first
    assert registry.storage.files("") == before


def test_other_content_under_the_same_number_is_refused(
    registry: Registry, model: ModelName, folder: Folder, tmp_path: Path
) -> None:
    epoch = registry.take_epoch([model], "me")
    registry.publish(model.revision(1), folder("one"), epoch=epoch)
    with pytest.raises(AlreadyPublished):
        registry.publish(model.revision(1), folder("two"), epoch=epoch)
    assert contents(registry.fetch(model.revision(1), tmp_path))["model.safetensors"] == "one"


def test_bad_publications_are_refused(registry: Registry, model: ModelName, folder: Folder, tmp_path: Path) -> None:
    epoch = registry.take_epoch([model], "me")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput):
        registry.publish(model.revision(1), tmp_path / "empty", epoch=epoch)
    with pytest.raises(InvalidInput):
        registry.publish(model.revision(0), folder("x"), epoch=epoch)
    with pytest.raises(InvalidInput, match="kl"):
        registry.publish(model.revision(1), folder("x"), epoch=epoch, metrics={"kl": float("nan")})
    with pytest.raises(InvalidInput, match="epoch"):
        registry.publish(model.revision(1), folder("x"), epoch=epoch + 1)
    assert registry.revisions(model) == []


class DyingStorage(Storage):
    """Storage whose process is killed before its n-th write; half of an upload may have arrived."""

    def __init__(self, url: str, writes: int) -> None:
        super().__init__(url)
        self.writes = writes

    def _write(self) -> None:
        self.writes -= 1
        if self.writes < 0:
            raise KeyboardInterrupt

    def create(self, path: str, data: bytes) -> bool:
        self._write()
        return super().create(path, data)

    def upload(self, source: Path, path: str) -> None:
        try:
            self._write()
        except KeyboardInterrupt:
            torn = source.with_name("torn")
            torn.write_bytes(source.read_bytes()[:1])
            super().upload(torn, path)
            torn.unlink()
            raise
        super().upload(source, path)


@pytest.mark.parametrize("second", ["one", "two"])
def test_a_publication_cut_short_anywhere_is_completed_by_another(
    url: str, model: ModelName, folder: Folder, tmp_path: Path, second: str
) -> None:
    """By the same content, and by other content where none was published before."""
    for writes in range(5):
        place = f"{url}/{writes}"
        epoch = Registry(place).take_epoch([model], "killed")
        with pytest.raises(KeyboardInterrupt):
            Registry(DyingStorage(place, writes)).publish(model.revision(1), folder("one"), epoch=epoch)
        registry = Registry(place)
        was_published = registry.revisions(model) == [1]
        assert was_published == (writes == 4)
        epoch = registry.take_epoch([model], "next")
        if was_published and second == "two":
            with pytest.raises(AlreadyPublished):
                registry.publish(model.revision(1), folder(second), epoch=epoch)
            continue
        registry.publish(model.revision(1), folder(second), epoch=epoch)
        fetched = registry.fetch(model.revision(1), tmp_path / f"{writes}")
        assert contents(fetched)["model.safetensors"] == second
        assert registry.resolve(model, "latest") == model.revision(1)


def test_two_writers_of_one_number_make_one_whole_revision(
    url: str, tmp_path: Path, model: ModelName, folder: Folder
) -> None:
    epoch = Registry(url).take_epoch([model], "me")
    sources = [folder(f"weights {index} " * 10_000) for index in range(4)]
    barrier = threading.Barrier(4)
    won: list[int] = []

    def publish(index: int) -> None:
        barrier.wait()
        try:
            Registry(url).publish(model.revision(1), sources[index], epoch=epoch)
            won.append(index)
        except AlreadyPublished:
            pass

    threads = [threading.Thread(target=publish, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert contents(Registry(url).fetch(model.revision(1), tmp_path)) == contents(sources[won[0]])


class PausedStorage(Storage):
    """Storage whose process is paused before its n-th write, while something else happens."""

    def __init__(self, url: str, before: int, meanwhile: Callable[[], None]) -> None:
        super().__init__(url)
        self.before, self.meanwhile = before, meanwhile

    def _write(self) -> None:
        self.before -= 1
        if self.before == 0:
            self.meanwhile()

    def create(self, path: str, data: bytes) -> bool:
        self._write()
        return super().create(path, data)

    def upload(self, source: Path, path: str) -> None:
        self._write()
        super().upload(source, path)


@pytest.mark.parametrize("before", range(1, 7))
def test_a_leader_paused_in_a_publication_moves_no_alias_and_spoils_no_file(
    url: str, model: ModelName, folder: Folder, tmp_path: Path, before: int
) -> None:
    """Paused before each write in turn: three files, the manifest, `latest`, `stable`."""
    new = Registry(url)
    old_epoch = new.take_epoch([model], "old")
    new.publish(model.revision(1), folder("first"), epoch=old_epoch)
    new.move_alias(model, "stable", 1, epoch=old_epoch, actor="old", reason="")
    seen: list[dict[str, int]] = []

    def heads() -> dict[str, int]:
        return {alias: head.number for alias, head in new.aliases(model).items()}

    def take_over() -> None:
        epoch = new.take_epoch([model], "new")
        number = new.next_number(model)
        new.publish(model.revision(number), folder("new"), epoch=epoch)
        new.move_alias(model, "stable", number, epoch=epoch, actor="new", reason="")
        seen.append(heads())

    def go_on(old: Registry) -> None:
        old.publish(model.revision(2), folder("old"), epoch=old_epoch)
        old.move_alias(model, "stable", 2, epoch=old_epoch, actor="old", reason="")

    with pytest.raises((EpochSuperseded, AlreadyPublished)):
        go_on(Registry(PausedStorage(url, before, take_over)))
    assert [heads()] == seen
    # Once the old leader's manifest is there, its number 2 is taken, and the new leader's revision is 3.
    live = new.resolve(model, "stable")
    assert live.number == (2 if before <= 4 else 3)
    assert contents(new.fetch(live, tmp_path))["model.safetensors"] == "new"


def test_a_deposed_trainer_publishes_nothing(registry: Registry, model: ModelName, folder: Folder) -> None:
    old = registry.take_epoch([model], "old")
    registry.take_epoch([model], "new")
    before = registry.storage.files("")
    with pytest.raises(EpochSuperseded):
        registry.publish(model.revision(1), folder("x"), epoch=old)
    assert registry.storage.files("") == before


@pytest.mark.parametrize("damage", ["truncated", "edited", "missing"])
def test_files_that_were_changed_are_refused(
    registry: Registry, model: ModelName, folder: Folder, tmp_path: Path, damage: str
) -> None:
    epoch = registry.take_epoch([model], "me")
    manifest = registry.publish(model.revision(1), folder("weights"), epoch=epoch)
    path = f"{model.revision(1)}/{manifest.content_digest}/model.safetensors"
    other = tmp_path / "other"
    other.write_text({"truncated": "weigh", "edited": "WEIGHTS", "missing": ""}[damage])
    registry.storage.remove(path)
    if damage != "missing":
        registry.storage.upload(other, path)
    with pytest.raises(RegistryCorrupt, match=r"model\.safetensors"):
        registry.fetch(model.revision(1), tmp_path / "fetched")


@pytest.mark.parametrize("content", [b"", b"{}", b"not json"])
def test_a_manifest_that_was_changed_is_refused(
    registry: Registry, model: ModelName, folder: Folder, tmp_path: Path, content: bytes
) -> None:
    epoch = registry.take_epoch([model], "me")
    registry.publish(model.revision(1), folder("one"), epoch=epoch)
    other = tmp_path / "other"
    other.write_bytes(content)
    registry.storage.upload(other, f"{model.revision(1)}/manifest.json")
    for reading in (registry.manifest, lambda name: registry.fetch(name, tmp_path)):
        with pytest.raises(RegistryCorrupt):
            reading(model.revision(1))


def test_a_manifest_of_another_revision_is_refused(registry: Registry, model: ModelName, folder: Folder) -> None:
    epoch = registry.take_epoch([model], "me")
    manifest = registry.publish(model.revision(1), folder("one"), epoch=epoch)
    registry.storage.create(f"{model.revision(2)}/manifest.json", manifest.to_json())
    with pytest.raises(RegistryCorrupt):
        registry.manifest(model.revision(2))


def test_a_download_keeps_what_is_whole_and_replaces_what_is_not(
    s3_url: str, model: ModelName, folder: Folder, tmp_path: Path
) -> None:
    registry = Registry(s3_url)
    epoch = registry.take_epoch([model], "me")
    registry.publish(model.revision(1), folder("weights"), epoch=epoch)
    fetched = registry.fetch(model.revision(1), tmp_path / "cache")
    kept = (fetched / "config.json").stat().st_ino
    (fetched / "model.safetensors").write_text("wei")
    assert registry.fetch(model.revision(1), tmp_path / "cache") == fetched
    assert contents(fetched)["model.safetensors"] == "weights"
    assert (fetched / "config.json").stat().st_ino == kept


def test_downloads_of_models_lie_apart_and_those_no_longer_needed_are_forgotten(
    s3_url: str, model: ModelName, folder: Folder, tmp_path: Path
) -> None:
    registry, reward, cache = Registry(s3_url), ModelName("rewards", "support"), tmp_path / "cache"
    epoch = registry.take_epoch([model, reward], "me")
    names = [model.revision(1), model.revision(2), model.revision(3), reward.revision(1)]
    for name in names:
        registry.publish(name, folder(str(name)), epoch=epoch)
    registry.forget(model, cache, keep=[])
    fetched = {name: registry.fetch(name, cache) for name in names}
    assert {name: contents(place)["model.safetensors"] for name, place in fetched.items()} == {n: str(n) for n in names}
    registry.forget(model, cache, keep=[1, 3])
    assert [name for name, place in fetched.items() if not place.exists()] == [model.revision(2)]


def test_selectors(registry: Registry, model: ModelName, folder: Folder) -> None:
    epoch = registry.take_epoch([model], "me")
    for number in (1, 2):
        registry.publish(model.revision(number), folder(str(number)), epoch=epoch)
    registry.move_alias(model, "stable", 1, epoch=epoch, actor="me", reason="it is good")
    meanings = {"stable": 1, "latest": 2, "2": 2, "policies/support/revisions/1": 1}
    assert {selector: registry.resolve(model, selector).number for selector in meanings} == meanings
    for selector in ("canary", "3", "policies/support/revisions/3", "policies/other/revisions/1"):
        with pytest.raises(RevisionUnknown):
            registry.resolve(model, selector)
    for selector in ("", "newest", "-1", "../1"):
        with pytest.raises(InvalidInput):
            registry.resolve(model, selector)


def test_an_alias_moves_only_to_what_exists(registry: Registry, model: ModelName) -> None:
    epoch = registry.take_epoch([model], "me")
    with pytest.raises(RevisionUnknown):
        registry.move_alias(model, "stable", 1, epoch=epoch, actor="me", reason="")
    assert registry.alias(model, "stable") is None


def test_one_epoch_serves_a_policy_and_its_reward_model(registry: Registry, model: ModelName, folder: Folder) -> None:
    reward = ModelName("rewards", "support")
    registry.take_epoch([reward], "attune reward-model")
    epoch = registry.take_epoch([model, reward], "trainer")
    assert registry.newest_epoch(model) == registry.newest_epoch(reward) == epoch == 2
    registry.publish(model.revision(1), folder("p"), epoch=epoch)
    registry.publish(reward.revision(1), folder("r"), epoch=epoch)
    assert registry.history(reward, "latest")[0].number == 1
