"""The policy revisions of this server: attune.modeling.served with a policy's way to load and to compute once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import torch

from attune.domain.errors import CheckpointRefused
from attune.domain.revisions import ModelName
from attune.modeling.loading import LoadedPolicy, load_policy
from attune.modeling.served import ServedRevisions, SwapMetrics
from attune.modeling.tokenizer import completion_ids
from attune.platform.registry.registry import Registry

PolicyRevisions = ServedRevisions[LoadedPolicy]


def policy_revisions(
    registry: Registry,
    model: ModelName,
    *,
    cache: Path,
    metrics: SwapMetrics,
    on_live: Callable[[], Awaitable[None]],
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> PolicyRevisions:
    """Revisions of a policy, loaded to `device` in `dtype`."""

    def load(folder: Path, expected_tokenizer_hash: str | None) -> LoadedPolicy:
        return load_policy(folder, device, dtype, expected_tokenizer_hash)

    return ServedRevisions(
        registry, model, load=load, probe=check_logits, cache=cache, metrics=metrics, on_live=on_live
    )


def check_logits(loaded: LoadedPolicy, name: str) -> None:
    """Finite weights can still overflow in a narrow dtype; one pass shows it, and warms the device up."""
    ids = torch.tensor([completion_ids(loaded.tokenizer, "ok")], device=loaded.model.device)
    with torch.inference_mode():
        logits = loaded.model(input_ids=ids).logits
    if not bool(torch.isfinite(logits).all()):
        raise CheckpointRefused(f"{name} computes logits that are not finite")
