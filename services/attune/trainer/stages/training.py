"""What the three stages share: schedule, optimizer, the loop, and checkpoints that a killed run goes on from.

A stage gives the loop a `Learner`; the loop calls it step by step, reports progress and keeps `<out>.checkpoint/`. A
checkpoint is written beside its place and renamed, so that one under its final name is whole; weights and moments are
safetensors, the rest JSON. What a step trains on is a pure function of (data, settings, step), never of what ran
before, so that a resumed run ends with the same weights, bit for bit, on the same machine with the same number of
threads.
The result is written beside `<out>` and renamed too: a folder that is there is finished.

Refused: an `out` that holds something else, a checkpoint of other data or settings (InvalidInput); a loss or gradient
that is not finite (TrainingStopped).
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from attune.domain.errors import InvalidInput, TrainingStopped
from attune.modeling.precision import Precision

RESULT_FILE = "stage.json"


@dataclass(frozen=True)
class StageSettings:
    """Hyper-parameters of a stage. `steps` wins over `epochs`; `batch_size` is in sequences."""

    lr: float = 1e-3
    batch_size: int = 16
    steps: int | None = None
    epochs: float = 1.0
    warmup_steps: int = 20
    weight_decay: float = 0.1
    adam_betas: tuple[float, float] = (0.9, 0.95)
    adam_eps: float = 1e-8
    max_grad_norm: float = 1.0
    seed: int = 0
    validation_share: float = 0.05
    """Share of the prompts (documents) that is held out, in [0, 1)."""
    validate_every: int = 100
    checkpoint_every: int = 200
    """Steps between checkpoints; 0 keeps none."""
    precision: Precision = "auto"
    """Of the matrix products; weights, moments and losses are float32."""
    device: str = "cpu"


@dataclass(frozen=True)
class StageProgress:
    """After one step. Losses are nats a token (nats an item for the reward model); None before the first validation."""

    step: int
    steps: int
    loss: float
    validation_loss: float | None
    tokens_per_s: float


OnProgress = Callable[[StageProgress], None]


@dataclass(frozen=True)
class StageResult:
    """What a stage made: the folder, its last losses, how many examples were too long, and figures of its own."""

    folder: Path
    steps: int
    loss: float
    validation_loss: float | None
    training_examples: int
    validation_examples: int
    dropped_too_long: int = 0
    metrics: dict[str, float] = field(default_factory=dict)


class Learner(Protocol):
    """What the loop needs of a stage."""

    def step(self, index: int, lr: float) -> tuple[float, int]:
        """Train on batch `index`; returns (loss, tokens it read)."""

    def validate(self) -> float | None:
        """Loss on what is held out; None if nothing is."""

    def save(self, folder: Path) -> None:
        """Write weights and moments."""

    def load(self, folder: Path) -> None:
        """Restore them, bit for bit."""


def learning_rate(step: int, steps: int, peak: float, warmup_steps: int) -> float:
    """Linear warm-up, then a cosine from `peak` down to a tenth of it at the last step. Steps count from 0."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    share = (step - warmup_steps) / max(1, steps - 1 - warmup_steps)
    return peak * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


def new_optimizer(model: nn.Module, settings: StageSettings) -> torch.optim.AdamW:
    """AdamW with decay on matrices only: gains and biases have no scale that decay should shrink."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, settings.lr, settings.adam_betas, settings.adam_eps, fused=True)


def apply_gradients(model: nn.Module, optimizer: torch.optim.Optimizer, lr: float, max_grad_norm: float) -> None:
    """Clip and step; TrainingStopped, before any weight moves, if the gradient is not finite."""
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
    if not bool(torch.isfinite(norm)):
        raise TrainingStopped("the gradient is not finite; lower the learning rate or look at the data")
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def shuffled_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """One epoch's batches of indices, in random order, each of similar lengths; the same for the same arguments.

    Shuffled first and sorted within windows of 32 batches: little padding, and no batch is the same twice.
    """
    rng = random.Random(f"{seed}/{epoch}")
    order = rng.sample(range(len(lengths)), len(lengths))
    window = 32 * batch_size
    batches: list[list[int]] = []
    for start in range(0, len(order), window):
        near = sorted(order[start : start + window], key=lambda i: lengths[i])
        batches.extend(near[i : i + batch_size] for i in range(0, len(near), batch_size))
    rng.shuffle(batches)
    return batches


class BatchOrder:
    """The batch of any step, epoch after epoch; remembers one epoch."""

    def __init__(self, lengths: Sequence[int], settings: StageSettings) -> None:
        if not lengths:
            raise InvalidInput("there is nothing to train on: every example was held out or too long")
        self._lengths, self._settings = lengths, settings
        self.batches_per_epoch = -(-len(lengths) // settings.batch_size)
        self.steps = settings.steps or max(1, round(settings.epochs * self.batches_per_epoch))
        self._epoch, self._batches = -1, [[0]]

    def __getitem__(self, step: int) -> list[int]:
        epoch, index = divmod(step, self.batches_per_epoch)
        if epoch != self._epoch:
            s = self._settings
            self._epoch, self._batches = epoch, shuffled_batches(self._lengths, s.batch_size, s.seed, epoch)
        return self._batches[index]


def source_identity(source: str | Path) -> str:
    """Hash of a local file's or folder's content, or the name of a hub model: what a run's fingerprint is made of."""
    path = Path(source)
    if not path.exists():
        return str(source)
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


class StageRun:
    """One run of a stage into `out`, identified by a fingerprint of all that decides its weights."""

    def __init__(self, out: str | Path, settings: StageSettings, identity: object) -> None:
        self.out = Path(out)
        self._checkpoints = self.out.with_name(self.out.name + ".checkpoint")
        self._settings = settings
        plain = [
            {k: v for k, v in asdict(settings).items() if k not in ("checkpoint_every", "validate_every")},
            identity,
        ]
        self._fingerprint = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()

    def finished(self) -> StageResult | None:
        """The result of this very run if it ended before; InvalidInput if `out` holds anything else."""
        if not self.out.exists() or (self.out.is_dir() and not any(self.out.iterdir())):
            return None
        stored = _read_json(self.out / RESULT_FILE)
        if stored.get("fingerprint") != self._fingerprint:
            raise InvalidInput(f"{self.out} already holds something else; choose another folder or remove it")
        return StageResult(folder=self.out, **stored["result"])

    def train(self, learner: Learner, steps: int, on_progress: OnProgress | None) -> tuple[float, float | None]:
        """All steps, from the last checkpoint if there is one; returns the last loss and validation loss."""
        s = self._settings
        torch.set_flush_denormal(True)  # denormal moments slow a CPU several times over
        done, loss, validation_loss = self._resume(learner)
        tokens_since, since = 0, time.perf_counter()
        for step in range(done, steps):
            loss, tokens = learner.step(step, learning_rate(step, steps, s.lr, min(s.warmup_steps, steps)))
            if not math.isfinite(loss):
                raise TrainingStopped(f"the loss of step {step + 1} is not finite; lower the learning rate")
            tokens_since += tokens
            speed = tokens_since / max(time.perf_counter() - since, 1e-9)
            is_last = step + 1 == steps
            if is_last or (step + 1) % s.validate_every == 0:
                validation_loss = learner.validate()
                tokens_since, since = 0, time.perf_counter()
            if s.checkpoint_every and (step + 1) % s.checkpoint_every == 0 and not is_last:
                self._checkpoint(learner, step + 1, loss, validation_loss)
            if on_progress:
                on_progress(StageProgress(step + 1, steps, loss, validation_loss, speed))
        return loss, validation_loss

    def finish(self, result: StageResult, write: Callable[[Path], None]) -> StageResult:
        """Let `write` fill the folder of the result, then put it in place and drop the checkpoints."""
        partial = _fresh(self.out.with_name(self.out.name + ".partial"))
        write(partial)
        plain = {name: value for name, value in asdict(result).items() if name != "folder"}
        _write_json(partial / RESULT_FILE, {"fingerprint": self._fingerprint, "result": plain})
        if self.out.is_dir():
            self.out.rmdir()  # empty: `finished` has looked
        partial.rename(self.out)
        shutil.rmtree(self._checkpoints, ignore_errors=True)
        return result

    def _checkpoint(self, learner: Learner, step: int, loss: float, validation_loss: float | None) -> None:
        partial = _fresh(self._checkpoints / "partial")
        learner.save(partial)
        state = {
            "fingerprint": self._fingerprint,
            "step": step,
            "loss": loss,
            "validation_loss": validation_loss,
        }
        _write_json(partial / "state.json", state)
        partial.rename(self._checkpoints / f"step-{step:08d}")
        for old in sorted(self._checkpoints.glob("step-*"))[:-1]:
            shutil.rmtree(old)

    def _resume(self, learner: Learner) -> tuple[int, float, float | None]:
        """(steps done, loss, validation loss) of the last checkpoint, restored into the learner; or a fresh start."""
        whole = sorted(self._checkpoints.glob("step-*"))
        if not whole:
            return 0, math.nan, None
        state = _read_json(whole[-1] / "state.json")
        if state.get("fingerprint") != self._fingerprint:
            raise InvalidInput(
                f"{self._checkpoints} belongs to a run on other data or settings; remove it to start anew"
            )
        learner.load(whole[-1])
        return state["step"], state["loss"], state["validation_loss"]


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")
