"""The policy revisions of this server: attune.modeling.served with a policy's way to load and to be probed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from attune.domain.revisions import ModelName
from attune.modeling.loading import LoadedPolicy, load_policy
from attune.modeling.served import ServedRevisions, SwapMetrics
from attune.platform.registry.registry import Registry
from attune.policy.probe import check_decodes, within_window

PolicyRevisions = ServedRevisions[LoadedPolicy]


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
) -> PolicyRevisions:
    """Revisions of a policy, loaded to `device` in `dtype`; `watched` is entered while they are."""

    def load(folder: Path, expected_tokenizer_hash: str | None) -> LoadedPolicy:
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
