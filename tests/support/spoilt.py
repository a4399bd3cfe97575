"""Ways in which a saved policy or reward model can be bad, and the error that each is refused with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from attune.domain.errors import (
    AttuneError,
    CheckpointMisshapen,
    CheckpointNotFinite,
    CheckpointPickled,
    CheckpointRefused,
    CheckpointTruncated,
    TokenizerDiffers,
)
from attune.modeling.tokenizer import train_tokenizer
from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"
Spoil = Callable[[Path], None]


def truncated(folder: Path) -> None:
    weights = folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])


def not_finite(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def wrong_shape(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    name = next(name for name, tensor in tensors.items() if tensor.dim() == 2)
    save_file(tensors | {name: tensors[name][:, :-1].contiguous()}, folder / WEIGHTS, {"format": "pt"})


def other_tokenizer(folder: Path) -> None:
    train_tokenizer(["quite other words"] * 4, vocabulary=280).save_pretrained(str(folder), save_jinja_files=False)


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def overflowing(folder: Path) -> None:
    """Finite weights whose products are not."""
    tensors = load_file(folder / WEIGHTS)
    huge = {name: t * 3e38 if "norm" in name else t for name, t in tensors.items()}
    save_file(huge, folder / WEIGHTS, {"format": "pt"})


SPOILT: dict[Spoil, type[AttuneError]] = {
    truncated: CheckpointTruncated,
    not_finite: CheckpointNotFinite,
    wrong_shape: CheckpointMisshapen,
    other_tokenizer: TokenizerDiffers,
    no_tokenizer: CheckpointRefused,
    pickled: CheckpointPickled,
    overflowing: CheckpointNotFinite,
}
