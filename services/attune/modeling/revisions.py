"""The revisions a server holds in memory: which are loaded, which is live, and what a request gets. Policy and reward
both use it, each with its own kind of model.

Weights come through `load`, which reads and verifies one revision and raises an AttuneError for anything bad. Aliases
come from whoever follows the registry, by `follow`; only a move of `stable` makes weights live. Kept in memory are
what the followed aliases name, the revision that was live before, and the last preloaded one; whatever else a request
still runs on lives as long as that request holds it.

Refused: a bad checkpoint, whole, while the old one serves on; a control call of a deposed trainer; a request for a
revision that is not in memory (loading in the path of a request would make every caller wait for one).

Loading blocks for seconds, so `follow` and `preload` belong on a thread; everything may be called from any thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from attune.domain.errors import (
    AttuneError,
    EpochSuperseded,
    InvalidInput,
    NoRevision,
    RegistryUnavailable,
    RevisionNotLoaded,
    RevisionUnknown,
)
from attune.domain.revisions import STABLE, RevisionName

T = TypeVar("T", covariant=True)


def publishing(model_name: str) -> str:
    """The command that publishes a first revision of "policies/<name>" or "rewards/<name>"."""
    stage = "sft" if model_name.startswith("policies/") else "reward-model"
    return f"attune {stage} --publish {model_name}"


@dataclass(frozen=True)
class Held(Generic[T]):
    """A revision in memory: its full name and what `load` made of it. Hold on to it and it cannot change."""

    name: str
    model: T


@dataclass(frozen=True)
class Followed:
    """What came of an alias's move: `error` is set if the revision was refused."""

    outcome: Literal["swapped", "unchanged", "refused"]
    revision: str
    load_s: float = 0.0
    error: AttuneError | None = None


class LoadedRevisions(Generic[T]):
    """The loaded revisions of one model, `model_name` being "policies/<name>" or "rewards/<name>".

    `exists` tells whether the registry has a revision, so that an unknown one and one not loaded are different errors.
    With `activate`, one revision serves at a time: it is called before `stable` moves, puts that revision into the
    engine or raises an AttuneError that refuses it, and whoever asks for another revision is refused.
    """

    def __init__(
        self,
        model_name: str,
        load: Callable[[str], T],
        exists: Callable[[str], bool],
        activate: Callable[[Held[T]], None] | None = None,
    ) -> None:
        self.model_name = model_name
        self._load = load
        self._exists = exists
        self._activate = activate
        self._loading = threading.Lock()
        self._state = threading.Lock()
        self._held: dict[str, Held[T]] = {}
        self._aliases: dict[str, str] = {}
        self._previous = ""
        self._preloaded = ""
        self._epoch = 0

    @property
    def live(self) -> str:
        """Full name of what `stable` names here; empty while there is none."""
        return self._aliases.get(STABLE, "")

    @property
    def aliases(self) -> dict[str, str]:
        """What each followed alias names here, by full name."""
        with self._state:
            return {alias: name for alias, name in self._aliases.items() if self._serves(name)}

    @property
    def names(self) -> tuple[str, ...]:
        """Full names of all that may be asked for, oldest load first."""
        with self._state:
            return tuple(name for name in self._held if self._serves(name))

    @property
    def epoch(self) -> int:
        """The newest trainer epoch seen; 0 if none."""
        return self._epoch

    def follow(self, alias: str, revision: str) -> Followed:
        """An alias now names `revision`: loads it if need be and then moves at once. Never raises for a bad revision:
        the alias stays where it was in this server, and the caller counts the refusal. A registry that is away says
        nothing of the revision: RegistryUnavailable and OSErrors rise, and it can be followed again."""
        if self._aliases.get(alias) == revision:
            return Followed("unchanged", revision)
        with self._loading:
            try:
                load_s = self._ensure(revision)
                if alias == STABLE and self._activate:
                    self._activate(self._held[revision])
            except RegistryUnavailable:
                raise
            except AttuneError as error:
                return Followed("refused", revision, error=error)
            with self._state:
                if alias == STABLE:
                    self._previous = self.live
                self._aliases[alias] = revision
                self._drop_unnamed()
        return Followed("swapped", revision, load_s)

    def preload(self, revision: str, epoch: int = 0) -> float:
        """Loads a revision beside the live one; seconds it took, 0.0 if it was there. `epoch` 0 is a person.

        RevisionUnknown for another model's name; EpochSuperseded for an older epoch; what `load` raises."""
        name = self._full_name(revision)
        self.fence(epoch)
        with self._loading:
            load_s = self._ensure(name)
            with self._state:
                self._preloaded = name
                self._drop_unnamed()
        return load_s

    def fence(self, epoch: int) -> None:
        """Notes a trainer's epoch; EpochSuperseded if a newer one has been seen."""
        with self._state:
            if epoch and epoch < self._epoch:
                raise EpochSuperseded(
                    f"epoch {epoch} is deposed; epoch {self._epoch} holds the registry",
                    metadata={"epoch": str(epoch), "newest_epoch": str(self._epoch)},
                )
            self._epoch = max(self._epoch, epoch)

    def get(self, asked: str = "") -> Held[T]:
        """What a request gets: `asked` is an alias, a number or a full name; empty is stable.

        NoRevision while nothing is live, RevisionUnknown, RevisionNotLoaded.
        """
        with self._state:
            name = self._aliases.get(asked or STABLE, "")
            if held := self._found(name):
                return held
            if asked in ("", STABLE):
                raise NoRevision(
                    f"nothing of {self.model_name} is live here yet; publish it: {publishing(self.model_name)}",
                    metadata={"model": self.model_name},
                )
            name = name or self._full_name(asked)
            if held := self._found(name):
                return held
            loaded = ", ".join(found for found in self._held if self._serves(found))
        if not self._exists(name):
            raise RevisionUnknown(f"the registry has no {name}", metadata={"revision": name})
        why = "cannot be asked for, this engine serves one revision at a time" if self._activate else "is not in memory"
        raise RevisionNotLoaded(
            f"{name} {why} here; loaded: {loaded or 'none'}", metadata={"revision": name, "loaded": loaded}
        )

    def _serves(self, name: str) -> bool:
        return self._activate is None or name == self.live

    def _found(self, name: str) -> Held[T] | None:
        return self._held.get(name) if self._serves(name) else None

    def _full_name(self, asked: str) -> str:
        """The full name that a number or full name stands for; RevisionUnknown if it is neither, or of another model.
        An alias that is not followed here is unknown too."""
        try:
            name = RevisionName.parse(asked if "/" in asked else f"{self.model_name}/revisions/{asked}")
        except InvalidInput:
            name = None
        if name is None or str(name.model_name) != self.model_name:
            raise RevisionUnknown(
                f"{asked[:200]!r} is no alias set here, number or full name of {self.model_name}",
                metadata={"revision": asked[:200]},
            )
        return str(name)

    def _ensure(self, name: str) -> float:
        """Seconds that loading took; 0.0 if held. The caller has the loading lock."""
        if name in self._held:
            return 0.0
        start = time.monotonic()
        model = self._load(name)
        with self._state:
            self._held[name] = Held(name, model)
        return time.monotonic() - start

    def _drop_unnamed(self) -> None:
        kept = {*self._aliases.values(), self._previous, self._preloaded}
        self._held = {name: held for name, held in self._held.items() if name in kept}
