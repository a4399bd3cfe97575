"""The policy revisions of this server: attune.modeling.served with a policy's way to load and to be probed.

An engine that holds one revision at a time reads the weights itself: then a revision is verified and stays on disk, and
`activate` gives it to the engine before stable moves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from attune.domain.revisions import ModelName, RevisionName
from attune.modeling.loading import LoadedPolicy, load_policy
from attune.modeling.revisions import Held
from attune.modeling.served import ServedRevisions, SwapMetrics
from attune.platform.registry.registry import Registry
from attune.policy.engines import Policy
from attune.policy.probe import check_decodes, within_window
from attune.policy.stored import StoredPolicy, check_probe, stored_policy

PolicyRevisions = ServedRevisions[Policy]


def policy_revisions(
    registry: Registry,
    model: ModelName,
    *,
    cache: Path,
    metrics: SwapMetrics,
    on_live: Callable[[], Awaitable[None]],
    watched: Callable[[], AbstractContextManager[None]] = nullcontext,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> ServedRevisions[LoadedPolicy]:
    """Revisions of a policy, loaded to `device` in `dtype`; `watched` is entered while they are."""

    def load(name: RevisionName, folder: Path, expected_tokenizer_hash: str | None) -> LoadedPolicy:
        return within_window(load_policy(folder, device, dtype, expected_tokenizer_hash))

    return ServedRevisions(
        registry,
        model,
        load=load,
        probe=check_decodes,
        cache=cache,
        metrics=metrics,
        on_live=on_live,
        watched=watched,
    )


def stored_revisions(
    registry: Registry,
    model: ModelName,
    *,
    cache: Path,
    metrics: SwapMetrics,
    on_live: Callable[[], Awaitable[None]],
    activate: Callable[[Held[StoredPolicy]], None],
    dtype: torch.dtype = torch.float32,
) -> ServedRevisions[StoredPolicy]:
    """Revisions of a policy that an engine runs in `dtype`, one at a time."""

    def load(name: RevisionName, folder: Path, expected_tokenizer_hash: str | None) -> StoredPolicy:
        return stored_policy(folder, dtype, expected_tokenizer_hash)

    return ServedRevisions(
        registry, model, load=load, probe=check_probe, cache=cache, metrics=metrics, on_live=on_live, activate=activate
    )
