"""The installed program: it runs, and says what to install where a part of it is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from attune.cli.start import EXTRAS

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"


def run(*arguments: str, without: str = "") -> subprocess.CompletedProcess[str]:
    """The program in an environment that lacks a package."""
    lacking = f"sys.modules[{without!r}] = None; " if without else ""
    code = f"import sys; {lacking}from attune.cli.start import main; sys.argv = ['attune', *sys.argv[1:]]; main()"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ATTUNE_")}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=100, env=environment
    )


def test_it_runs_the_program() -> None:
    done = run("--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: attune ")


@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [
        ("click", ["--help"], "server"),
        ("pydantic", ["feedback", "ingest", "--settings"], "server"),
        ("torch", ["policy"], "models"),
    ],
)
def test_what_is_missing_is_named_with_what_brings_it(package: str, arguments: list[str], extra: str) -> None:
    done = run(*arguments, without=package)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"attune: this command needs {package}, which comes with: pip install 'attune[{extra}]'"
    )


def test_a_module_of_our_own_that_is_missing_is_a_fault() -> None:
    done = run("generate", "hi", without="attune.cli.generate")
    assert "ModuleNotFoundError" in done.stderr


IMPORTED_AS = {"kafka-python": "kafka", "opentelemetry-api": "opentelemetry", "pyjwt": "jwt"}


def test_the_extras_are_those_of_the_project() -> None:
    extras = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    for extra, packages in EXTRAS.items():
        named = {re.split(r"[<>=\[]", requirement)[0] for requirement in extras[extra]} - {"attune"}
        named = {IMPORTED_AS.get(name, name.replace("grpcio-", "grpc-").replace("-", "_")) for name in named}
        assert packages == named, extra
