"""Files of the registry on fsspec: a directory, S3, GCS. The few operations whose guarantees the registry needs.

What the stores give, and what is made of it:

* Exclusive creation of a small file, whole or not at all. S3 and GCS: `pipe_file(mode="create")`, a conditional PUT.
  fsspec's own version for a directory only looks first and then writes, so here a directory gets a hard link of a
  finished temporary file; a file system without hard links gets O_EXCL, where a kill can leave a torn file.
* A file is replaced whole. Object stores do that by themselves; a directory gets a temporary file and a rename.
* Listings are never cached: a server must see what another process wrote.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec.core
from fsspec.implementations.local import LocalFileSystem

_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class Storage:
    """Paths are relative to the root, with slashes. FileNotFoundError and other OSErrors rise."""

    def __init__(self, url: str) -> None:
        self._fs, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        self._is_directory = isinstance(self._fs, LocalFileSystem)

    def _full(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}"

    def local_path(self, path: str) -> Path | None:
        """Where the file or folder lies on this machine; None if it lies elsewhere."""
        return Path(self._full(path)) if self._is_directory else None

    def create(self, path: str, data: bytes) -> bool:
        """Creates the file with this content, durably, if there is none; False if there is one of other content.

        A file of the very same content counts as created: the answer to an earlier try may have been lost. Whoever
        must tell two creators apart puts something of its own into the content.
        """
        try:
            if self._is_directory:
                _create_local(Path(self._full(path)), data)
            else:
                self._fs.pipe_file(self._full(path), data, mode="create")
        except FileExistsError:
            return self.read(path) == data
        except OSError:
            # Stores name a failed precondition in several ways: whether it was one, the file tells.
            if not self.exists(path):
                raise
            return self.read(path) == data
        return True

    def upload(self, source: Path, path: str) -> None:
        """Puts a local file there, whole, in place of any other."""
        if not self._is_directory:
            self._fs.put_file(str(source), self._full(path))
            return
        target = Path(self._full(path))
        with _temporary_beside(target) as temporary:
            shutil.copyfile(source, temporary)
            _sync(temporary)
            temporary.replace(target)
        _sync(target.parent)

    def download(self, path: str, target: Path) -> None:
        """Fetches a file to a local path, whole, in place of any other."""
        with _temporary_beside(target) as temporary:
            self._fs.get_file(self._full(path), str(temporary))
            temporary.replace(target)

    def read(self, path: str) -> bytes:
        return self._fs.cat_file(self._full(path))

    def exists(self, path: str) -> bool:
        self._fs.invalidate_cache()
        return self._fs.exists(self._full(path))

    def remove(self, path: str) -> None:
        """Removes a file; one that is gone already is fine."""
        try:
            self._fs.rm_file(self._full(path))
        except FileNotFoundError:
            return

    def names(self, folder: str) -> list[str]:
        """Names of the files and folders in a folder; empty if there is no such folder."""
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(self._full(folder), detail=False)
        except FileNotFoundError:
            return []
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)

    def files(self, folder: str) -> list[str]:
        """Paths of all files below a folder, as `read` takes them; those half-written by a killed process included."""
        self._fs.invalidate_cache()
        base = self._full("")
        return [str(path).removeprefix(base) for path in self._fs.find(self._full(folder))]

    def folders_holding(self, folder: str, name: str) -> list[str]:
        """Names of the direct subfolders that hold a file of this name, by one listing."""
        self._fs.invalidate_cache()
        found = self._fs.glob(self._full(f"{folder}/*/{name}"))
        return sorted(str(path).split("/")[-2] for path in found)


def _create_local(path: Path, data: bytes) -> None:
    with _temporary_beside(path) as temporary:
        temporary.write_bytes(data)
        _sync(temporary)
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            with path.open("xb") as file:
                file.write(data)
            _sync(path)
    _sync(path.parent)


@contextmanager
def _temporary_beside(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
