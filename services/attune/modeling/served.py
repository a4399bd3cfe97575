"""The revisions that a model server follows: fetched from the registry, verified, and live when `stable` says so.

Policy and reward servers differ in how a folder is loaded and probed; all else about a swap is here. A revision is
fetched with its hashes checked, loaded, and made to compute once before it can be named. Refused and counted, whole,
while the old one serves on: whatever `load` refuses, a tokenizer other than that of the first revision held, and a
model that does not pass `probe`. Which revisions stay in memory is decided by attune.modeling.revisions.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from transformers import PreTrainedTokenizerBase

from attune.api.registry.v1 import registry_pb2
from attune.domain.errors import (
    AttuneError,
    CheckpointMisshapen,
    CheckpointNotFinite,
    CheckpointPickled,
    CheckpointRefused,
    CheckpointTruncated,
    EngineUnavailable,
    InvalidInput,
    RegistryCorrupt,
    RevisionUnknown,
    TokenizerDiffers,
)
from attune.domain.revisions import STABLE, AliasRecord, ModelName, RevisionName
from attune.domain.times import to_timestamp
from attune.modeling.revisions import Held, LoadedRevisions
from attune.modeling.tokenizer import tokenizer_hash
from attune.platform.registry.registry import Registry

log = logging.getLogger(__name__)
REFUSALS = (
    CheckpointMisshapen,
    CheckpointNotFinite,
    CheckpointPickled,
    CheckpointRefused,
    CheckpointTruncated,
    RegistryCorrupt,
    RevisionUnknown,
    TokenizerDiffers,
)
"""What a revision is refused for; each is counted from the start, so that no first increase is missed."""


class Model(Protocol):
    """What is loaded, as far as this module cares."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...


M = TypeVar("M", bound=Model, covariant=True)


@dataclass(frozen=True)
class Refused:
    """A revision that was not taken, why, and when in seconds since the epoch."""

    name: str
    error: AttuneError
    time: float

    def to_proto(self) -> registry_pb2.RefusedRevision:
        return registry_pb2.RefusedRevision(
            revision=self.name,
            reason=self.error.reason,
            message=self.error.message,
            refuse_time=to_timestamp(self.time),
        )


class SwapMetrics:
    """What a model server measures of its revisions; `noun` is "policy" or "reward"."""

    def __init__(self, noun: str, registry: CollectorRegistry) -> None:
        prefix = f"attune_{noun}"
        self.revision_info = Gauge(
            f"{prefix}_revision_info", "1 for the live revision", ["revision"], registry=registry
        )
        self.live_number = Gauge(
            f"{prefix}_live_revision_number", "Number of the live revision; 0 for none", registry=registry
        )
        self.swaps = Counter(f"{prefix}_swaps", "Moves of aliases followed, by outcome", ["outcome"], registry=registry)
        for outcome in ("swapped", "refused"):
            self.swaps.labels(outcome)  # stands from the start: the first increase must not be missed
        self.swap_duration_s = Histogram(
            f"{prefix}_swap_duration_seconds", "Loading and verifying a revision", registry=registry
        )
        self.load_refused = Counter(
            f"{prefix}_load_refused", "Revisions refused, by reason", ["reason"], registry=registry
        )
        for error in REFUSALS:
            self.load_refused.labels(error.reason)
        self.torn_alias_files = Gauge(
            f"{prefix}_torn_alias_files", "Alias files ignored because they cannot be read", registry=registry
        )
        self.registry_errors = Counter(
            f"{prefix}_registry_errors", "Looks at the registry that failed, by error", ["error"], registry=registry
        )

    def count_registry_error(self, error: Exception) -> None:
        """Counts a look at the registry that failed; it will be looked at again."""
        self.registry_errors.labels(getattr(error, "reason", type(error).__name__)).inc()


class ServedRevisions(Generic[M]):
    """`loaded` is what requests are answered from, `refused` the last revision that was not taken, until another is.

    `load` reads a revision's folder, whose tokenizer must have the given hash (None: any); `probe` computes once with
    what was loaded and raises CheckpointRefused if the numbers are not finite, or not what they must be. `cache` is a
    folder for what a remote registry sends, of which only what is in memory stays; `on_live` is awaited each time
    another revision has become live; `activate` is as LoadedRevisions says; `watched` is entered while a revision is
    made ready or its alias moves.
    """

    def __init__(
        self,
        registry: Registry,
        model: ModelName,
        *,
        load: Callable[[RevisionName, Path, str | None], M],
        probe: Callable[[M, str], None],
        cache: Path,
        metrics: SwapMetrics,
        on_live: Callable[[], Awaitable[None]],
        activate: Callable[[Held[M]], None] | None = None,
        watched: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.loaded: LoadedRevisions[M] = LoadedRevisions(str(model), self._load, self._exists, activate)
        self._registry = registry
        self._model = model
        self._read = load
        self._probe = probe
        self._cache = cache
        self._metrics = metrics
        self._on_live = on_live
        self._watched = watched
        self._tokenizer_hash: str | None = None
        self.refused: Refused | None = None
        metrics.torn_alias_files.set_function(lambda: registry.torn_alias_files)

    async def follow(self, record: AliasRecord) -> None:
        """An alias has moved: what it names is loaded and serves, or is refused and the old one serves on.

        EngineUnavailable while the engine is away: nothing is refused then, and whoever follows asks again."""
        name = str(self._model.revision(record.number))
        before = self.loaded.live
        with self._watched():
            followed = await asyncio.to_thread(self.loaded.follow, record.alias, name)
        if followed.outcome == "unchanged":
            return
        if isinstance(followed.error, EngineUnavailable):
            raise followed.error
        self._metrics.swaps.labels(followed.outcome).inc()
        if followed.error is not None:
            self._refused(name, followed.error)
            return
        self._metrics.swap_duration_s.observe(followed.load_s)
        log.info("%s is %s now (loaded in %.2f s)", record.alias, name, followed.load_s)
        if record.alias == STABLE:
            if before:
                self._metrics.revision_info.remove(before)
            self._metrics.revision_info.labels(name).set(1)
            self._metrics.live_number.set(record.number)
            await self._on_live()

    def preload(self, revision: str, epoch: int) -> float:
        """Loads a revision beside the live one; seconds it took. Blocks. Raises what LoadedRevisions.preload does."""
        try:
            with self._watched():
                return self.loaded.preload(revision, epoch)
        except (CheckpointRefused, RegistryCorrupt) as error:
            self._refused(revision, error)
            raise

    @property
    def torn_alias_files(self) -> int:
        """How many alias files of the registry were ignored so far because they cannot be read."""
        return self._registry.torn_alias_files

    def create_time(self, name: str) -> float:
        """When a revision was made, in seconds since the epoch. Blocks. RevisionUnknown; RegistryCorrupt."""
        return self._registry.manifest(RevisionName.parse(name)).create_time

    def _refused(self, name: str, error: AttuneError) -> None:
        self._metrics.load_refused.labels(error.reason).inc()
        self.refused = Refused(name, error, time.time())
        log.error("%s is refused, %s serves on: %s", name, self.loaded.live or "nothing", error.message)

    def _load(self, name: str) -> M:
        revision = RevisionName.parse(name)
        wanted = [RevisionName.parse(known).number for known in (*self.loaded.names, name)]
        self._registry.forget(self._model, self._cache, keep=wanted)
        folder = self._registry.fetch(revision, self._cache)
        loaded = self._read(revision, folder, self._tokenizer_hash)
        self._probe(loaded, name)
        self._tokenizer_hash = self._tokenizer_hash or tokenizer_hash(loaded.tokenizer)
        self.refused = None
        return loaded

    def _exists(self, name: str) -> bool:
        try:
            self._registry.manifest(RevisionName.parse(name))
        except (RevisionUnknown, InvalidInput):
            return False
        return True
