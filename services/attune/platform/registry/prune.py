"""Pruning: deleting the weights of old revisions. Every manifest stays, so lineage can be read for ever.

Kept are the last N revisions, those that an alias points at, those a rollback would go to, and those the caller names
(its reference, what its checkpoint needs). Only the leader prunes; it is the one that moves aliases.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from pathlib import PurePosixPath

from attune.domain.errors import InvalidInput
from attune.domain.revisions import ModelName, RevisionName
from attune.platform.registry.registry import PRUNED_MARK, Registry

_WEIGHTS = ".safetensors"


def prune(
    registry: Registry,
    model: ModelName,
    *,
    keep_last: int,
    also_keep: Collection[int] = (),
    dry_run: bool = False,
) -> list[int]:
    """Numbers of the revisions whose weights were deleted (or, in a dry run, would be), ascending.

    The mark is written before the first file goes: cut short, the next run goes on, and nobody fetches half a revision.
    """
    if keep_last < 1:
        raise InvalidInput.field("keep_last", "must be at least 1")
    kept = {*registry.revisions(model)[-keep_last:], *also_keep, *_aliased(registry, model)}
    found = []
    for number in registry.revisions(model):
        name = model.revision(number)
        weights = [] if number in kept else _weights_of(registry, name)
        if not weights:
            continue
        found.append(number)
        if not dry_run:
            _delete(registry, name, weights)
    return found


def _aliased(registry: Registry, model: ModelName) -> set[int]:
    heads = registry.aliases(model).values()
    return {number for head in heads for number in (head.number, head.previous) if number}


def _weights_of(registry: Registry, name: RevisionName) -> list[str]:
    """Paths of the weight files that are still there, also those of attempts that lost or were killed."""
    return [path for path in registry.storage.files(str(name)) if _WEIGHTS in PurePosixPath(path).name]


def _delete(registry: Registry, name: RevisionName, weights: list[str]) -> None:
    mark = json.dumps({"time": round(time.time(), 6), "files": len(weights)}).encode()
    registry.storage.create(f"{name}/{PRUNED_MARK}", mark)
    for path in weights:
        registry.storage.remove(path)
