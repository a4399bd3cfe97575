"""The program: light to start, every command loads, and errors are one line."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from attune.cli.main import COMMANDS, attune
from click.testing import CliRunner

HEAVY = ("torch", "transformers", "matplotlib")


def modules_after(code: str) -> set[str]:
    """The heavy modules that a fresh interpreter has loaded after `code`."""
    checked = (
        f"import sys\ntry:\n    {code}\nexcept SystemExit: pass\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", checked], capture_output=True, text=True, check=True, timeout=60)
    return set(eval_list(run.stdout.strip().splitlines()[-1]))


def eval_list(text: str) -> list[str]:
    return [part.strip(" '") for part in text.strip("[]").split(",") if part.strip()]


@pytest.mark.parametrize(
    "code",
    [
        "import attune.client",
        "from attune.cli.main import attune; attune(['--help'])",
        "from attune.cli.main import attune; attune(['demo', '--help'])",
        "from attune.cli.main import attune; attune(['sft', '--help'])",
        "from attune.cli.main import attune; attune(['feedback', '--help'])",
        "from attune.cli.main import attune; attune(['up', '--help'])",
    ],
)
def test_light_to_start(code: str) -> None:
    assert modules_after(code) == set()


def test_the_probe_sees_torch() -> None:
    assert modules_after("import torch") == {"torch"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_loads_and_explains_itself(name: str) -> None:
    command = attune.get_command(click.Context(attune), name)
    assert command is not None
    shown = CliRunner().invoke(attune, [name, "--help"])
    assert shown.exit_code == 0
    assert "Usage" in shown.output


def test_help_lists_every_command() -> None:
    shown = CliRunner().invoke(attune, ["--help"])
    assert all(f"  {name} " in shown.output for name in COMMANDS)


def test_an_unknown_command_is_refused() -> None:
    shown = CliRunner().invoke(attune, ["retrain"])
    assert shown.exit_code == 2
    assert "No such command" in shown.output


def test_a_deliberate_error_is_one_line_and_status_1(tmp_path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "hi", "completion": "hello"}\n{"prompt": 7}\n')
    command = ["-m", "attune.cli.main", "sft", str(bad), "--base", str(tmp_path), "--out", str(tmp_path / "out")]
    run = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("attune: ")
    assert "Traceback" not in run.stderr


def test_who_cannot_be_reached_is_named_and_what_to_do() -> None:
    command = ["-m", "attune.cli.main", "generate", "hi", "--policy-address", "127.0.0.1:1", "--timeout", "0.5"]
    run = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 1
    assert "(127.0.0.1:1)" in run.stderr
    assert "attune up" in run.stderr
    assert "Traceback" not in run.stderr
