"""Anchors: the fixed pairs of prompt and completion on which every reward revision is normalised.

The reward-model stage writes them down with the first revision and each later revision carries them on unchanged, so
that a normalised score, and with it the KL coefficient, keeps its meaning.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from attune.domain.errors import CheckpointRefused

FILE = "anchors.json"
Anchor = tuple[str | list[dict[str, str]], str]


def write_anchors(folder: str | Path, anchors: Sequence[Anchor]) -> None:
    """Writes the anchors beside a reward model's weights."""
    rows = [{"prompt": prompt, "completion": completion} for prompt, completion in anchors]
    (Path(folder) / FILE).write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n")


def read_anchors(folder: str | Path) -> list[Anchor]:
    """The anchors of a reward model folder; CheckpointRefused if it has none that can be read, or fewer than two."""
    try:
        rows = json.loads((Path(folder) / FILE).read_text())
        anchors: list[Anchor] = [(row["prompt"], str(row["completion"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointRefused(f"{folder} has no readable {FILE}; publish it with `attune reward-model`") from error
    if len(anchors) < 2:
        raise CheckpointRefused(f"{folder}: {FILE} needs at least two anchors")
    return anchors
