"""The policy revisions of this server: fetched from the registry, verified, and live when `stable` says so.

A revision is fetched with its hashes checked, loaded by modeling.loading, and made to write one token before it can be
named. Refused and counted, whole, while the old one serves on: whatever the loader refuses, a tokenizer other than that
of the first revision held, and a model whose logits are not finite. Which revisions stay in memory is decided by
modeling.revisions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import torch

from attune.domain.errors import AttuneError, CheckpointRefused, InvalidInput, RegistryCorrupt, RevisionUnknown
from attune.domain.revisions import STABLE, AliasRecord, ModelName, RevisionName
from attune.modeling.loading import LoadedPolicy, load_policy
from attune.modeling.revisions import LoadedRevisions
from attune.modeling.tokenizer import completion_ids, tokenizer_hash
from attune.platform.registry.registry import Registry
from attune.policy.metrics import PolicyMetrics

log = logging.getLogger(__name__)


class PolicyRevisions:
    """`loaded` is what requests are answered from. `cache` is a folder for what a remote registry sends; `on_live` is
    awaited each time another revision has become live."""

    def __init__(
        self,
        registry: Registry,
        model: ModelName,
        *,
        cache: Path,
        metrics: PolicyMetrics,
        on_live: Callable[[], Awaitable[None]],
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.loaded: LoadedRevisions[LoadedPolicy] = LoadedRevisions(str(model), self._load, self._exists)
        self._registry = registry
        self._model = model
        self._cache = cache
        self._metrics = metrics
        self._on_live = on_live
        self._device = device
        self._dtype = dtype
        self._tokenizer_hash: str | None = None

    async def follow(self, record: AliasRecord) -> None:
        """An alias has moved: what it names is loaded and serves, or is refused and the old one serves on."""
        name = str(self._model.revision(record.number))
        before = self.loaded.live
        followed = await asyncio.to_thread(self.loaded.follow, record.alias, name)
        if followed.outcome == "unchanged":
            return
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
            return self.loaded.preload(revision, epoch)
        except (CheckpointRefused, RegistryCorrupt) as error:
            self._refused(revision, error)
            raise

    def _refused(self, name: str, error: AttuneError) -> None:
        self._metrics.load_refused.labels(error.reason).inc()
        log.error("%s is refused, %s serves on: %s", name, self.loaded.live or "nothing", error.message)

    def _load(self, name: str) -> LoadedPolicy:
        folder = self._registry.fetch(RevisionName.parse(name), self._cache)
        loaded = load_policy(folder, self._device, self._dtype, self._tokenizer_hash)
        _check_logits(loaded, name)
        self._tokenizer_hash = self._tokenizer_hash or tokenizer_hash(loaded.tokenizer)
        return loaded

    def _exists(self, name: str) -> bool:
        try:
            self._registry.manifest(RevisionName.parse(name))
        except (RevisionUnknown, InvalidInput):
            return False
        return True


def _check_logits(loaded: LoadedPolicy, name: str) -> None:
    """Finite weights can still overflow in a narrow dtype; one pass shows it, and warms the device up."""
    ids = torch.tensor([completion_ids(loaded.tokenizer, "ok")], device=loaded.model.device)
    with torch.inference_mode():
        logits = loaded.model(input_ids=ids).logits
    if not bool(torch.isfinite(logits).all()):
        raise CheckpointRefused(f"{name} computes logits that are not finite")
