"""The guarantees that the registry takes from its storage."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from attune.domain.errors import RegistryUnavailable
from attune.platform.registry.storage import Storage
from s3fs import S3FileSystem
from support.processes import free_port
from support.s3 import S3Server


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


def test_of_many_threads_one_creates(url: str) -> None:
    barrier = threading.Barrier(8)
    won: list[int] = []

    def attempt(name: int) -> None:
        storage = Storage(url)
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
    assert len(Storage(url).files("x")) == 20


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


def test_a_bucket_that_is_not_there_is_no_empty_registry(s3: S3Server, tmp_path: Path) -> None:
    storage = Storage("s3://no-such-bucket/registry")
    (tmp_path / "source").write_text("x")
    for operation in (
        lambda: storage.create("a", b"1"),
        lambda: storage.upload(tmp_path / "source", "a"),
        lambda: storage.names("a"),
        lambda: storage.files("a"),
        lambda: storage.folders_holding("a", "b"),
        lambda: storage.exists("a"),
        lambda: storage.read("a"),
    ):
        with pytest.raises(RegistryUnavailable, match="no bucket no-such-bucket"):
            operation()


def test_an_object_store_that_cannot_be_reached_is_unavailable(s3: S3Server) -> None:
    storage = Storage("s3://bucket/registry", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(RegistryUnavailable, match=r"s3://bucket/registry cannot be used now.*Could not connect"):
        storage.names("a")
    with pytest.raises(RegistryUnavailable):
        storage.create("a", b"1")


@pytest.fixture
def no_open_clients() -> Iterator[None]:
    """Neither those that have found credentials before, nor afterwards one that found none."""
    S3FileSystem.clear_instance_cache()
    yield
    S3FileSystem.clear_instance_cache()


@pytest.mark.usefixtures("no_open_clients")
def test_without_credentials_an_object_store_is_unavailable(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = s3.new_bucket()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(RegistryUnavailable, match="credentials"):
        Storage(f"s3://{bucket}/registry").names("a")
