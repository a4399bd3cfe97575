"""What scores: one interface, behind which stand transformers in this process and Triton (attune.reward.triton_engine).

An engine turns a revision's folder into a model that scores batches of tokens; tokens, batches, order and normalisation
are the scorer's, so that both engines give the same scores. Refused by both: what attune.modeling.reward_model refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from transformers import PreTrainedTokenizerBase

from attune.domain.revisions import RevisionName
from attune.modeling.reward_model import LoadedRewardModel, Normalisation, load_reward_model


class ScoringModel(Protocol):
    """A loaded revision."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...

    @property
    def max_context(self) -> int: ...

    @property
    def normalisation(self) -> Normalisation: ...

    def raw_scores(self, inputs: Sequence[Sequence[int]]) -> list[float]:
        """The head's output for each list of tokens, scored as one batch. An AttuneError is for the callers, such as
        EngineUnavailable; any other error ends the scorer."""
        ...


class RewardEngine(Protocol):
    """Loads revisions. Called on threads, one load at a time."""

    def load(self, name: RevisionName, folder: Path, expected_tokenizer_hash: str | None) -> ScoringModel:
        """CheckpointRefused for a bad revision; EngineUnavailable if it may be tried again. Dropping the model is
        enough to unload it."""
        ...

    def close(self) -> None:
        """Frees what models hold outside this process."""
        ...


class TransformersEngine:
    """Weights in this process, on `device`; `dtype` is the trunk's."""

    def __init__(self, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self._device = device
        self._dtype = dtype

    def load(self, name: RevisionName, folder: Path, expected_tokenizer_hash: str | None) -> LoadedRewardModel:
        return load_reward_model(folder, self._device, self._dtype, expected_tokenizer_hash)

    def close(self) -> None:
        """Nothing is outside."""
