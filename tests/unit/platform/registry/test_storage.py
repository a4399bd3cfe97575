"""The guarantees that the registry takes from its storage."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from attune.platform.registry.storage import Storage


@pytest.fixture
def storage(url: str) -> Storage:
    return Storage(url)


def test_a_file_is_created_once(storage: Storage) -> None:
    assert storage.create("a/b/c.json", b"one")
    assert not storage.create("a/b/c.json", b"two")
    assert storage.read("a/b/c.json") == b"one"


def test_creating_the_same_again_succeeds_because_the_first_answer_may_be_lost(storage: Storage) -> None:
    assert storage.create("a", b"one")
    assert storage.create("a", b"one")


def test_listings_name_files_and_folders_and_nothing_else(storage: Storage) -> None:
    assert storage.names("x") == []
    storage.create("x/one", b"1")
    storage.create("x/two/three", b"3")
    assert storage.names("x") == ["one", "two"]
    assert storage.files("x") == ["x/one", "x/two/three"]
    assert storage.folders_holding("x", "three") == ["two"]
    assert storage.folders_holding("y", "three") == []


def test_another_opening_sees_what_was_written_after_it_looked(url: str) -> None:
    one, two = Storage(url), Storage(url)
    assert not two.exists("x/a")
    assert two.names("x") == []
    one.create("x/a", b"1")
    assert two.exists("x/a")
    assert two.names("x") == ["a"]


def test_uploads_replace_and_downloads_give_them_back(storage: Storage, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "deep" / "target"
    for content in (b"one", b"two" * 100_000):
        source.write_bytes(content)
        storage.upload(source, "x/file")
        storage.download("x/file", target)
        assert target.read_bytes() == content
    assert storage.files("x") == ["x/file"]
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_what_is_not_there_is_said(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        storage.read("nothing")
    with pytest.raises(FileNotFoundError):
        storage.download("nothing", tmp_path / "target")
    storage.remove("nothing")


def test_of_many_threads_one_creates(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)
    won: list[int] = []

    def attempt(name: int) -> None:
        storage = Storage(str(tmp_path))
        for turn in range(20):
            barrier.wait()
            if storage.create(f"x/{turn}", f"{name} {'x' * 5000}".encode()):
                won.append(turn)

    threads = [threading.Thread(target=attempt, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(20))
    assert len(list((tmp_path / "x").iterdir())) == 20


def test_a_file_system_without_hard_links_is_exclusive_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    storage = Storage(str(tmp_path))
    assert storage.create("x/a", b"one")
    assert not storage.create("x/a", b"two")
    assert storage.files("x") == ["x/a"]


def test_a_failure_that_is_no_conflict_rises(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("a file where a folder should be")
    with pytest.raises(OSError, match="x"):
        Storage(str(tmp_path)).create("x/a", b"one")
