"""What a trainer keeps on its own disk, so that it can be killed anywhere and end with the same weights.

    inputs/step-00000012/      the input of a step, complete before its update begins: input.json and tensors
    pieces/<name>-00000012/    one learner after a step: weights and optimizer, never text; immutable
    current.json               which step is done, which pieces hold, and whether the step's gate has spoken

Order of a step: 1 input written beside and renamed; 2 update; 3 revision published; 4 pieces written beside and
renamed, then current.json replaced with settled = false; 5 gate and alias; 6 current.json replaced with settled = true
(a rejected step names the pieces of before). A kill between any two is repaired by doing the next one again: inputs are
replayed, publication is idempotent, and pieces that current.json does not name are rubbish.
Folders are complete when they stand under their final name; a name that ends in .partial is rubbish.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Progress:
    """The content of current.json.

    `pieces` and `fallback` map a learner's name to its folder under pieces/: as it is now, and as it was when its last
    revision was accepted. `facts` are the loop's own numbers and names, JSON values.
    """

    step: int = 0
    settled: bool = True
    pieces: dict[str, str] = field(default_factory=dict)
    fallback: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


class StateFolder:
    """The trainer's folder. One process at a time: the loop holds the registry's epoch."""

    def __init__(self, root: Path, keep_inputs: int = 2) -> None:
        self._root = root
        self._keep_inputs = keep_inputs
        for name in ("inputs", "pieces"):
            (root / name).mkdir(parents=True, exist_ok=True)

    def progress(self) -> Progress:
        """Where the trainer stands; a fresh folder is at step 0."""
        path = self._root / "current.json"
        return Progress(**json.loads(path.read_text())) if path.exists() else Progress()

    def record(self, progress: Progress) -> None:
        """Replaces current.json at once, then deletes pieces and inputs that nothing names any more."""
        _write_durably(self._root / "current.json", json.dumps(asdict(progress), indent=1))
        self._sweep(progress)

    def input_of(self, step: int) -> Path | None:
        """The folder of a step's saved input, or None while it is not complete."""
        path = self._root / "inputs" / f"step-{step:08d}"
        return path if path.exists() else None

    @contextmanager
    def write_input(self, step: int) -> Iterator[Path]:
        """A folder to fill with the step's input; it counts once the block ends well."""
        with _whole_folder(self._root / "inputs" / f"step-{step:08d}") as folder:
            yield folder

    def amend_input(self, step: int, **changes: Any) -> None:
        """Changes fields of a saved input, all at once."""
        path = self._root / "inputs" / f"step-{step:08d}" / "input.json"
        _write_durably(path, _as_json(read_json(path) | changes))

    @contextmanager
    def write_piece(self, name: str, step: int) -> Iterator[Path]:
        """A folder to fill with a learner's state; `piece_name` is what Progress names it by."""
        with _whole_folder(self._root / "pieces" / self.piece_name(name, step)) as folder:
            yield folder

    @staticmethod
    def piece_name(name: str, step: int) -> str:
        return f"{name}-{step:08d}"

    def piece(self, piece_name: str) -> Path:
        return self._root / "pieces" / piece_name

    def _sweep(self, progress: Progress) -> None:
        named = {*progress.pieces.values(), *progress.fallback.values()}
        for folder in (self._root / "pieces").iterdir():
            if folder.name not in named:
                shutil.rmtree(folder, ignore_errors=True)
        inputs = sorted(f for f in (self._root / "inputs").iterdir() if f.name.removeprefix("step-").isdigit())
        done = [f for f in inputs if int(f.name.removeprefix("step-")) <= progress.step]
        for folder in done[: max(0, len(done) - self._keep_inputs)]:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _whole_folder(target: Path) -> Iterator[Path]:
    """A folder written beside its final name and renamed when it is whole and on the disk."""
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    for path in partial.rglob("*"):
        if path.is_file():
            _sync(path)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    _sync(target.parent)


def _write_durably(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    _sync(partial)
    partial.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """JSON with stable order, for input.json."""
    path.write_text(_as_json(value))


def _as_json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=1, sort_keys=True)


def read_json(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text())
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no JSON object")
    return value
