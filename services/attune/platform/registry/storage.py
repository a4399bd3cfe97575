"""Files of the registry on fsspec: a directory, S3, GCS. The few operations whose guarantees the registry needs.

What the stores give, and what is made of it:

* Exclusive creation of a small file, whole or not at all. S3 and GCS: `pipe_file(mode="create")`, a conditional PUT.
  fsspec's own version for a directory only looks first and then writes, so here a directory gets a hard link of a
  finished temporary file; a file system without hard links gets O_EXCL, where a kill can leave a torn file.
* A file is replaced whole. Object stores do that by themselves; a directory gets a temporary file and a rename.
* Listings are never cached: a server must see what another process wrote.
* An object store that cannot be reached, or refuses, is RegistryUnavailable: who follows it looks again.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from fsspec.implementations.local import LocalFileSystem

from attune.domain.errors import RegistryUnavailable
from attune.platform.registry.stores import client_errors, open_filesystem

P = ParamSpec("P")
R = TypeVar("R")
CREATE_TRIES = 3
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def _told(method: Callable[Concatenate[Storage, P], R]) -> Callable[Concatenate[Storage, P], R]:
    """The method, raising RegistryUnavailable for what the client of an object store raises; that there is no such file
    is still told by FileNotFoundError."""

    @wraps(method)
    def telling(self: Storage, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, *args, **kwargs)
        except FileNotFoundError:
            self._check_bucket()
            raise
        except self.client_errors as error:
            raise RegistryUnavailable(f"the registry {self.url} cannot be used now: {error}") from error

    return telling


class Storage:
    """Paths are relative to the root, with slashes. FileNotFoundError and other OSErrors rise.

    `url` and `endpoint` are those of attune.platform.registry.stores.
    """

    def __init__(self, url: str, endpoint: str = "") -> None:
        self.url = url
        self._fs, self._root = open_filesystem(url, endpoint)
        self.client_errors = client_errors(self._fs)
        self._is_directory = isinstance(self._fs, LocalFileSystem)
        self._has_bucket = not self.client_errors  # only an S3 is asked for it

    def _full(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}"

    def _check_bucket(self) -> None:
        """RegistryUnavailable if the store lacks the bucket itself: it must not pass for an empty registry."""
        bucket = self._root.strip("/").partition("/")[0]
        self._has_bucket = self._has_bucket or self._fs.exists(bucket)
        if not self._has_bucket:
            raise RegistryUnavailable(f"the registry {self.url} cannot be used now: there is no bucket {bucket}")

    def local_path(self, path: str) -> Path | None:
        """Where the file or folder lies on this machine; None if it lies elsewhere."""
        return Path(self._full(path)) if self._is_directory else None

    @_told
    def create(self, path: str, data: bytes) -> bool:
        """Creates the file with this content, durably, if there is none; False if there is one of other content.

        A file of the very same content counts as created: the answer to an earlier try may have been lost. Whoever
        must tell two creators apart puts something of its own into the content.
        """
        for tries_left in reversed(range(1 if self._is_directory else CREATE_TRIES)):
            try:
                self._create(path, data)
                return True
            except FileExistsError:
                break
            except OSError:
                # Stores name a failed precondition in several ways: whether it was one, the file tells. If it is not
                # there, another's creation may have been under way (S3 answers 409 and asks to try again).
                if self.exists(path):
                    break
                if not tries_left:
                    raise
        return self.read(path) == data

    def _create(self, path: str, data: bytes) -> None:
        if self._is_directory:
            _create_local(Path(self._full(path)), data)
        else:
            self._fs.pipe_file(self._full(path), data, mode="create")

    @_told
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

    @_told
    def download(self, path: str, target: Path) -> None:
        """Fetches a file to a local path, whole, in place of any other."""
        with _temporary_beside(target) as temporary:
            self._fs.get_file(self._full(path), str(temporary))
            temporary.replace(target)

    @_told
    def read(self, path: str) -> bytes:
        return self._fs.cat_file(self._full(path))

    @_told
    def exists(self, path: str) -> bool:
        self._fs.invalidate_cache()
        if self._fs.exists(self._full(path)):
            return True
        self._check_bucket()
        return False

    @_told
    def remove(self, path: str) -> None:
        """Removes a file; one that is gone already is fine."""
        try:
            self._fs.rm_file(self._full(path))
        except FileNotFoundError:
            return

    @_told
    def names(self, folder: str) -> list[str]:
        """Names of the files and folders in a folder; empty if there is no such folder."""
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(self._full(folder), detail=False)
        except FileNotFoundError:
            self._check_bucket()
            return []
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)

    @_told
    def files(self, folder: str) -> list[str]:
        """Paths of all files below a folder, as `read` takes them; those half-written by a killed process included."""
        self._fs.invalidate_cache()
        base = self._full("")
        found = [str(path).removeprefix(base) for path in self._fs.find(self._full(folder))]
        if not found:
            self._check_bucket()
        return found

    @_told
    def folders_holding(self, folder: str, name: str) -> list[str]:
        """Names of the direct subfolders that hold a file of this name."""
        if self._is_directory:
            found = self._fs.glob(self._full(f"{folder}/*/{name}"))
            return sorted(str(path).split("/")[-2] for path in found)
        # A thousand files a request, where a look into each folder would be a request by itself.
        below = (path.removeprefix(f"{folder}/").split("/") for path in self.files(folder))
        return sorted(parts[0] for parts in below if parts[1:] == [name])


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
