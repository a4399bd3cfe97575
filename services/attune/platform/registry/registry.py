"""The registry: immutable revisions, and aliases that point at them, on a directory or an object store.

    {policies,rewards}/<model>/revisions/<n>/<content digest>/…        the files of a revision
    {policies,rewards}/<model>/revisions/<n>/manifest.json             written last, exclusively: now it exists
    {policies,rewards}/<model>/revisions/<n>/pruned.json               its weights were deleted (prune.py)
    {policies,rewards}/<model>/aliases/<alias>/<epoch>-<sequence>.json see aliases.py
    {policies,rewards}/<model>/epochs/<e>                              see epochs.py

Files lie under the digest of their content, so that a publication that was cut short can be repeated, by anyone and
with other content too, without touching a file that another writer or reader has: equal paths mean equal bytes, and
the manifest says which content won. Calls block; servers use a thread. Trainers write, servers read.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from attune.domain.errors import AlreadyPublished, InvalidInput, NoRevision, RegistryCorrupt, RevisionUnknown
from attune.domain.revisions import (
    ALIASES,
    LATEST,
    AliasRecord,
    FileHash,
    Lineage,
    Manifest,
    ModelName,
    RevisionName,
    content_digest,
)
from attune.platform.registry.aliases import Aliases
from attune.platform.registry.epochs import Epochs
from attune.platform.registry.storage import Storage

_MANIFEST = "manifest.json"
PRUNED_MARK = "pruned.json"
_MAX_FILES = 10_000


class Registry:
    """See the module. `location` is a folder, a URL that fsspec knows (s3://bucket/prefix), or opened storage."""

    def __init__(self, location: str | os.PathLike[str] | Storage, *, clock: Callable[[], float] = time.time) -> None:
        self.storage = location if isinstance(location, Storage) else Storage(os.fspath(location))
        self._clock = clock
        self._epochs = Epochs(self.storage)
        self._aliases = Aliases(self.storage, self._epochs, clock)

    # Leading

    def take_epoch(self, models: Sequence[ModelName], owner: str) -> int:
        """Makes the caller the leader of these models, under one new epoch; whoever led before is deposed."""
        epoch = self._epochs.take(models, owner)
        for model in models:
            self._aliases.affirm(model, epoch, owner)
        return epoch

    def newest_epoch(self, model: ModelName) -> int:
        """The highest epoch taken; 0 if none was."""
        return self._epochs.newest(model)

    # Revisions

    def revisions(self, model: ModelName) -> list[int]:
        """Numbers of the published revisions, ascending, pruned ones included."""
        return sorted(int(name) for name in self.storage.folders_holding(f"{model}/revisions", _MANIFEST))

    def next_number(self, model: ModelName) -> int:
        """The number after the last published revision."""
        return max(self.revisions(model), default=0) + 1

    def manifest(self, name: RevisionName) -> Manifest:
        """RevisionUnknown if there is none, RegistryCorrupt if it cannot be read."""
        try:
            data = self.storage.read(f"{name}/{_MANIFEST}")
        except FileNotFoundError:
            raise RevisionUnknown(f"{name} is not in the registry", metadata={"revision": str(name)}) from None
        manifest = Manifest.from_json(data)
        if manifest.name != name:
            raise RegistryCorrupt(f"the manifest of {name} is that of {manifest.name}")
        return manifest

    def is_pruned(self, name: RevisionName) -> bool:
        """Whether the weights were deleted; the manifest stays."""
        return self.storage.exists(f"{name}/{PRUNED_MARK}")

    def publish(
        self,
        name: RevisionName,
        folder: Path,
        *,
        epoch: int,
        parent: int | None = None,
        reward_revision: str | None = None,
        example_sequence: int = 0,
        step: int = 0,
        metrics: Mapping[str, float] | None = None,
        details: Mapping[str, str] | None = None,
    ) -> Manifest:
        """Writes a folder's files as a revision and points `latest` at it; makes nothing live.

        Publishing the same files again succeeds and changes nothing; other files raise AlreadyPublished. A deposed
        trainer gets EpochSuperseded.
        """
        if name.number < 1:
            raise InvalidInput.field("name", "a revision's number starts at 1")
        lineage = Lineage(
            epoch, parent, reward_revision, example_sequence, step, dict(metrics or {}), dict(details or {})
        )
        files = hash_folder(folder)
        self._epochs.check(name.model_name, epoch)
        manifest = self._published(name, files)
        if manifest is None:
            self._upload(name, folder, files)
            manifest = Manifest(**vars(lineage), name=name, create_time=round(self._clock(), 6), files=files)
            if not self.storage.create(f"{name}/{_MANIFEST}", manifest.to_json()):
                manifest = self._published(name, files) or manifest
        head = self.alias(name.model_name, LATEST)
        if head is None or head.number < name.number:
            self._aliases.move(
                name.model_name, LATEST, name.number, epoch=epoch, actor="registry", reason="was published"
            )
        return manifest

    def _published(self, name: RevisionName, files: Mapping[str, FileHash]) -> Manifest | None:
        """The manifest if the revision exists with these files; AlreadyPublished if with others."""
        try:
            manifest = self.manifest(name)
        except RevisionUnknown:
            return None
        if manifest.files != files:
            raise AlreadyPublished(f"{name} exists with other content", metadata={"revision": str(name)})
        return manifest

    def _upload(self, name: RevisionName, folder: Path, files: Mapping[str, FileHash]) -> None:
        base = f"{name}/{content_digest(files)}"
        for path in files:
            self.storage.upload(folder / path, f"{base}/{path}")

    def fetch(self, name: RevisionName, into: Path) -> Path:
        """A local folder that holds the revision's files, each checked against its hash.

        A registry that is a directory gives its own folder, in which nothing may be written; from elsewhere files are
        downloaded into `into`/<name>, and those already there whole are kept. RevisionUnknown if there is none or it
        was pruned, RegistryCorrupt if a file is missing or not what the manifest says.
        """
        manifest = self.manifest(name)
        base = f"{name}/{manifest.content_digest}"
        if self.is_pruned(name):
            raise RevisionUnknown(f"the weights of {name} were pruned", metadata={"revision": str(name)})
        local = self.storage.local_path(base)
        folder = local or into / str(name)
        for path, wanted in manifest.files.items():
            try:
                if local is None and not _matches(folder / path, wanted):
                    self.storage.download(f"{base}/{path}", folder / path)
            except FileNotFoundError:
                pass
            if not _matches(folder / path, wanted):
                raise RegistryCorrupt(f"{path} of {name} is missing or not what its manifest says")
        return folder

    def forget(self, model: ModelName, into: Path, keep: Collection[int]) -> None:
        """Deletes what `fetch` has downloaded into a folder, but for these numbers."""
        for folder in (into / f"{model}/revisions").glob("*"):
            if folder.name not in map(str, keep):
                shutil.rmtree(folder)

    # Aliases

    def alias(self, model: ModelName, alias: str) -> AliasRecord | None:
        """What the alias points at now; None for nothing."""
        return self._aliases.head(model, alias)

    def aliases(self, model: ModelName) -> dict[str, AliasRecord]:
        """Every alias that points at something."""
        heads = {alias: self.alias(model, alias) for alias in ALIASES}
        return {alias: head for alias, head in heads.items() if head is not None}

    def history(self, model: ModelName, alias: str) -> list[AliasRecord]:
        """Every move of the alias, the newest first; affirmations by new epochs are among them."""
        return self._aliases.history(model, alias)

    @property
    def torn_alias_files(self) -> int:
        """How many alias files were ignored so far because they cannot be read."""
        return len(self._aliases.torn_files)

    def move_alias(
        self,
        model: ModelName,
        alias: str,
        number: int,
        *,
        epoch: int,
        actor: str,
        reason: str,
        expected: int | None = None,
    ) -> AliasRecord:
        """Points an alias at a revision that exists: the one thing that makes weights live. See aliases.py."""
        name = model.revision(number)
        self.manifest(name)
        if self.is_pruned(name):
            raise RevisionUnknown(f"the weights of {name} were pruned", metadata={"revision": str(name)})
        return self._aliases.move(model, alias, number, epoch=epoch, actor=actor, reason=reason, expected=expected)

    def resolve(self, model: ModelName, selector: str) -> RevisionName:
        """The revision that "stable", "canary", "latest", "7" or a full name means.

        NoRevision if nothing was published under the model, RevisionUnknown if the selector means none of its
        revisions.
        """
        if selector in ALIASES:
            head = self.alias(model, selector)
            if head is None:
                error = RevisionUnknown if self.revisions(model) else NoRevision
                raise error(f"{selector} of {model} points at no revision")
            return model.revision(head.number)
        if selector.isascii() and selector.isdigit():
            selector = f"{model}/revisions/{int(selector)}"
        name = RevisionName.parse(selector)
        if name.model_name != model:
            raise RevisionUnknown(f"{name} is not a revision of {model}", metadata={"revision": str(name)})
        self.manifest(name)
        return name


def hash_folder(folder: Path) -> dict[str, FileHash]:
    """Relative path → hash of every file under a folder. InvalidInput if there is none."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    if not paths or len(paths) > _MAX_FILES:
        raise InvalidInput(f"a revision has 1 to {_MAX_FILES} files, this folder {len(paths)}")
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in paths}


def hash_file(path: Path) -> FileHash:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileHash(digest, file.tell())


def _matches(path: Path, wanted: FileHash) -> bool:
    return path.is_file() and path.stat().st_size == wanted.size and hash_file(path) == wanted
