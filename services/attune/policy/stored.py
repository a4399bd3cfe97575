"""A verified policy that stays on disk, for an engine that reads the weights itself.

Such an engine runs in processes of its own and takes a folder. Before it may, the folder is loaded here once, as any
other engine would load it, so that all that a policy is refused for is refused here, and what follows a short prompt
is computed by a plain pass: the engine must say the same of its own first token. Then the weights are let go.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from attune.domain.errors import CheckpointRefused
from attune.modeling.loading import load_policy
from attune.modeling.tokenizer import completion_ids
from attune.policy.probe import LARGEST_GAP, check_finite_logits, next_logprobs

PROBE_TEMPERATURE = 0.7
"""Away from 1, so that an engine which reports the log-probabilities of another temperature is found out."""
UNSHAPED = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
"""Keys of a configuration that say nothing about the shape."""


@dataclass(frozen=True)
class StoredPolicy:
    """Where a verified policy lies, and what is known of it; `probe_logprobs` (V,) follow `probe_ids`."""

    folder: Path
    tokenizer: PreTrainedTokenizerBase
    max_context: int
    shape: dict[str, Any]
    dtype: torch.dtype
    probe_ids: tuple[int, ...]
    probe_logprobs: torch.Tensor

    def check_wrote(self, name: str, token: int, logprob: float) -> None:
        """CheckpointRefused unless an engine's `token` after the probe, and its log-probability, are this policy's."""
        gap = abs(float(self.probe_logprobs[token]) - logprob)
        if not gap <= LARGEST_GAP[self.dtype]:
            raise CheckpointRefused(f"{name}: its log-probabilities would be recorded with an error of {gap:.2g} nats")


def stored_policy(folder: Path, dtype: torch.dtype, expected_tokenizer_hash: str | None) -> StoredPolicy:
    """Verifies the policy of a folder; CheckpointRefused as load_policy says."""
    loaded = load_policy(folder, "cpu", dtype, expected_tokenizer_hash)
    ids = completion_ids(loaded.tokenizer, "ok")[:-1]
    return StoredPolicy(
        folder=folder,
        tokenizer=loaded.tokenizer,
        max_context=loaded.max_context,
        shape=shape_of(loaded.model.config),
        dtype=dtype,
        probe_ids=tuple(ids),
        probe_logprobs=next_logprobs(loaded, ids, PROBE_TEMPERATURE),
    )


def check_probe(stored: StoredPolicy, name: str) -> None:
    """CheckpointRefused if what the plain pass gave is not finite."""
    check_finite_logits(stored.probe_logprobs, name)


def shape_of(config: PretrainedConfig) -> dict[str, Any]:
    """What two revisions must share for the weights of one to take the place of the other's."""
    return {key: value for key, value in config.to_dict().items() if key not in UNSHAPED}
