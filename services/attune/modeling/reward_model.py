"""Reward models: a decoder trunk and a scalar head, read at the last real token; and the critic made of one.

The input is the rendered prompt, the tokens of the completion's text, and EOS; the score is the head on that EOS. The
head is float32 whatever the trunk is, and the padding side cannot change a score. Raw scores have no zero and no unit:
`Normalisation` gives both, measured on a fixed set of anchors at each revision.

A folder is a Hugging Face folder of the trunk with `reward_head.safetensors` (weight (1, H), bias (1)) and
`attune.json`. It comes from the reward-model stage, the trainer and the registry, and goes to the scorer and the
learner. Refused with CheckpointRefused: what a policy folder is refused for, and a folder that is no reward model.
"""

from __future__ import annotations

import copy
import inspect
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from attune.domain.errors import CheckpointMisshapen, CheckpointRefused
from attune.modeling.batching import last_real_index, pad, position_ids
from attune.modeling.loading import (
    check_finite,
    check_tokenizer_is,
    check_vocabulary_fits,
    load_weights,
    max_context,
    save_policy,
)
from attune.modeling.tokenizer import completion_ids, load_tokenizer

HEAD_FILE, MANIFEST_FILE = "reward_head.safetensors", "attune.json"


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of the raw scores of the anchor set, by one revision."""

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise ValueError(f"mean must be finite and std positive, got {self.mean} and {self.std}")

    def normalised(self, raw: Tensor) -> Tensor:
        """(raw - mean) / std, any shape."""
        return (raw - self.mean) / self.std

    @classmethod
    def of(cls, raw: Tensor) -> Normalisation:
        """Of anchor scores (N,), N at least 2; biased deviation, kept from zero for a model that scores all alike."""
        if raw.numel() < 2:
            raise ValueError("an anchor set needs at least two texts")
        return cls(float(raw.double().mean()), max(float(raw.double().std(correction=0)), 1e-6))


class RewardModel(nn.Module):
    """A trunk that returns last_hidden_state (B, T, H), and a linear head in float32."""

    def __init__(self, trunk: PreTrainedModel) -> None:
        super().__init__()
        self.trunk = trunk
        width = int(trunk.config.hidden_size)
        self.head = nn.Linear(width, 1, dtype=torch.float32, device=trunk.device)
        nn.init.normal_(self.head.weight, std=1 / math.sqrt(width + 1))  # Stiennon et al. 2020, with their code's root
        nn.init.zeros_(self.head.bias)
        self._takes_positions = "position_ids" in inspect.signature(trunk.forward).parameters

    def scores(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Raw score of each row, at its last real token: (B, T), (B, T) -> (B,) float32."""
        hidden = self._hidden(input_ids, attention_mask)
        rows = torch.arange(len(hidden), device=hidden.device)
        return self._read(hidden[rows, last_real_index(attention_mask)])

    def values(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The head at every position, for use as a critic: (B, T), (B, T) -> (B, T) float32; padding holds garbage."""
        return self._read(self._hidden(input_ids, attention_mask))

    def _hidden(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        places = {"position_ids": position_ids(attention_mask)} if self._takes_positions else {}
        output = self.trunk(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **places)
        return output.last_hidden_state

    def _read(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return self.head(hidden.float()).squeeze(-1)


@dataclass(frozen=True)
class LoadedRewardModel:
    """A reward model ready for use; `source_biases` are the learned b of rating sources (see trainer.likelihood)."""

    model: RewardModel
    tokenizer: PreTrainedTokenizerBase
    max_context: int
    normalisation: Normalisation = field(default_factory=Normalisation)
    source_biases: Mapping[str, float] = field(default_factory=dict)

    def raw_scores(self, inputs: Sequence[Sequence[int]]) -> list[float]:
        """The score of each list of tokens, as one batch."""
        batch = pad(inputs, int(self.tokenizer.pad_token_id), "right", self.model.head.weight.device)
        with torch.inference_mode():
            return self.model.scores(batch.input_ids, batch.attention_mask).tolist()


def reward_input(tokenizer: PreTrainedTokenizerBase, prompt_ids: Sequence[int], completion_text: str) -> list[int]:
    """Rendered prompt, the tokens of the completion's text, EOS; never truncated."""
    return [*prompt_ids, *completion_ids(tokenizer, completion_text)]


def reward_model_on(trunk: PreTrainedModel, seed: int = 0) -> RewardModel:
    """A fresh head, drawn under `seed`, on the trunk of a causal LM (which is used, not copied)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return RewardModel(trunk).eval()


def critic_from_reward_model(model: RewardModel, normalisation: Normalisation | None = None) -> RewardModel:
    """A copy to be trained as the critic. With `normalisation` its first values are in units of normalised scores."""
    critic = copy.deepcopy(model)
    if normalisation is not None:
        with torch.no_grad():
            critic.head.bias.sub_(normalisation.mean).div_(normalisation.std)
            critic.head.weight.div_(normalisation.std)
    return critic


def save_reward_model(loaded: LoadedRewardModel, folder: str | Path) -> None:
    """Write the folder described above. Not atomic: callers write beside the final place and rename."""
    save_policy(loaded.model.trunk, loaded.tokenizer, folder)
    head = {name: tensor.detach().cpu().contiguous() for name, tensor in loaded.model.head.state_dict().items()}
    save_file(head, Path(folder) / HEAD_FILE)
    manifest = {
        "kind": "reward",
        "anchor_mean": loaded.normalisation.mean,
        "anchor_std": loaded.normalisation.std,
        "source_biases": dict(sorted(loaded.source_biases.items())),
    }
    (Path(folder) / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2, allow_nan=False) + "\n")


def load_reward_model(
    folder: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    expected_tokenizer_hash: str | None = None,
) -> LoadedRewardModel:
    """Load and check a reward model folder; CheckpointRefused says what is wrong with it."""
    normalisation, source_biases = _read_manifest(Path(folder))
    tokenizer = load_tokenizer(folder)
    check_tokenizer_is(tokenizer, expected_tokenizer_hash, folder)
    head = _read_head(Path(folder))
    trunk = load_weights(AutoModel, folder, dtype)
    check_vocabulary_fits(trunk, tokenizer, folder)
    model = reward_model_on(trunk)
    try:
        model.head.load_state_dict(head)
    except RuntimeError as error:
        raise CheckpointMisshapen(f"{folder}: the head does not fit the trunk") from error
    return LoadedRewardModel(
        model.to(device).eval(), tokenizer, max_context(trunk.config), normalisation, source_biases
    )


def _read_manifest(folder: Path) -> tuple[Normalisation, dict[str, float]]:
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST_FILE).read_text())
        if manifest["kind"] != "reward":
            raise CheckpointRefused(f"{folder} is no reward model but a {manifest['kind']}")
        biases = {str(source): float(bias) for source, bias in manifest.get("source_biases", {}).items()}
        return Normalisation(float(manifest["anchor_mean"]), float(manifest["anchor_std"])), biases
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointRefused(f"{folder} is no reward model: {MANIFEST_FILE} is missing or malformed") from error


def _read_head(folder: Path) -> dict[str, Tensor]:
    try:
        head = load_file(folder / HEAD_FILE)
    except (OSError, SafetensorError) as error:
        raise CheckpointRefused(f"{folder}: {HEAD_FILE} is missing or truncated") from error
    check_finite(head, folder)
    if head.get("weight") is None or head["weight"].dtype != torch.float32:
        raise CheckpointRefused(f"{folder}: {HEAD_FILE} must hold weight and bias in float32")
    return head
