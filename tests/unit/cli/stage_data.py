"""Training files of a few lines for the stage commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attune.cli.main import attune
from click.testing import CliRunner, Result

SMALL = ("--width", "32", "--layers", "1", "--heads", "2", "--context", "64", "--vocabulary", "300")
QUICK = ("--batch-size", "8", "--precision", "float32", "--device", "cpu")


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def texts(folder: Path) -> str:
    return write(folder / "texts.jsonl", [{"text": f"where is order {i}? on its way, {i} days"} for i in range(60)])


def answers(folder: Path) -> str:
    rows = [{"prompt": f"where is order {i}?", "completion": f"on its way, {i} days"} for i in range(40)]
    return write(folder / "answers.jsonl", rows)


def rankings(folder: Path, n: int = 240) -> str:
    rows = [{"prompt": f"order {i}?", "ranking": [f"on its way {i}", f"where {i} is it"]} for i in range(n)]
    return write(folder / "rankings.jsonl", rows)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(attune, list(arguments))


def run_json(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.strip().splitlines()[-1])


def base(folder: Path, family: str = "llama") -> str:
    """A pretrained model of one layer."""
    out = str(folder / "base")
    run_json("pretrain", texts(folder), "--out", out, "--steps", "3", "--family", family, *SMALL, *QUICK)
    return out
