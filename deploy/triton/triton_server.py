"""One real Triton Inference Server on this machine, on the CPU, with the Python backend: for development and tests.

The server comes from PyPI (nvidia-pytriton) into a cache folder, with a virtual environment for its Python backend,
which finds torch and transformers in the environment that runs this. The backend carries the interpreter's library, so
that must be the system's own python3, of the same minor version as the one that runs this.

    python deploy/triton/triton_server.py run --repository attune-data/triton [--port 8001]
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from contextlib import suppress
from pathlib import Path

import grpc

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("ATTUNE_TRITON_CACHE", HERE.parent.parent / ".cache" / "triton"))
PACKAGE = "nvidia-pytriton==0.7.0"
SYSTEM_PYTHON = Path("/usr/bin/python3")
START_TIMEOUT_S, STOP_TIMEOUT_S = 60.0, 30.0
PAUSE_S = 0.05
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class TritonFailed(Exception):
    """The server cannot be had here, or did not start; the message says what to do or where its log is."""


def fetch(cache: Path = CACHE) -> Path:
    """The folder of the server and its environment, made the first time. TritonFailed where there can be none."""
    _check_python()
    made = cache / f"{PACKAGE.replace('==', '-')}-{PYTHON}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            new = cache / "new"
            shutil.rmtree(new, ignore_errors=True)
            _make(new)
            new.rename(made)
    # Written each time: the environment that runs this may be another one now.
    (_packages(made) / "models.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return made


def _check_python() -> None:
    hint = f"Triton's Python backend needs the system's own python{PYTHON}"
    if not SYSTEM_PYTHON.exists():
        raise TritonFailed(f"{hint}; on Debian: apt-get install python3-venv")
    asked = [SYSTEM_PYTHON, "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False)
    if found.stdout.strip() != PYTHON:
        raise TritonFailed(f"{hint}, and {SYSTEM_PYTHON} is {found.stdout.strip() or found.stderr.strip()}")


def _make(folder: Path) -> None:
    for command in (
        [SYSTEM_PYTHON, "-m", "venv", "--without-pip", folder / "python"],
        [sys.executable, "-m", "pip", "--python", folder / "python", "install", "--quiet", "--no-deps", PACKAGE],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise TritonFailed(f"{PACKAGE} could not be installed: {done.stdout}{done.stderr}")
    # The backend looks for its stub, which there is one of for each version of Python, in its own folder.
    source = _packages(folder) / "pytriton" / "tritonserver"
    shutil.copytree(source, folder / "server", ignore=shutil.ignore_patterns("python_backend_stubs"))
    shutil.copy(source / "python_backend_stubs" / PYTHON / "triton_python_backend_stub", _backends(folder) / "python")


def _packages(folder: Path) -> Path:
    return folder / "python" / "lib" / f"python{PYTHON}" / "site-packages"


def _backends(folder: Path) -> Path:
    return folder / "server" / "backends"


class Triton:
    """A server on the model repository `repository`, told by its clients what to load; its gRPC is on `port`."""

    def __init__(self, repository: Path, port: int, log: Path, *, cache: Path = CACHE) -> None:
        self.repository, self.log = repository, log
        self._port, self._cache = port, cache
        self.url = f"127.0.0.1:{port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Returns when it answers; TritonFailed if it does not in time."""
        folder = fetch(self._cache)
        self.repository.mkdir(parents=True, exist_ok=True)
        libraries, programs = _packages(folder) / "nvidia_pytriton.libs", folder / "python" / "bin"
        environment = os.environ | {
            "LD_LIBRARY_PATH": str(libraries),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(folder), env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + timeout_s
        with grpc.insecure_channel(self.url) as channel:
            connected = grpc.channel_ready_future(channel)
            while not connected.done():
                if not self.is_running or time.monotonic() > deadline:
                    self.kill()
                    raise TritonFailed(f"Triton did not start; see {self.log}")
                time.sleep(PAUSE_S)

    def stop(self) -> None:
        """Asks it to end and waits."""
        if self._process is None or not self.is_running:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """kill -9, its backend's processes included."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def __enter__(self) -> Triton:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _command(self, folder: Path) -> list[str]:
        return [
            str(folder / "server" / "bin" / "tritonserver"),
            f"--model-repository={self.repository.absolute()}",
            f"--backend-directory={_backends(folder)}",
            f"--cache-directory={folder / 'server' / 'caches'}",
            "--model-control-mode=explicit",
            "--disable-auto-complete-config",
            "--grpc-address=127.0.0.1",
            f"--grpc-port={self._port}",
            "--allow-http=false",
            "--allow-metrics=false",
            "--exit-timeout-secs=5",
        ]


def main() -> None:
    """The command line: `fetch` the server, or `run` one until Ctrl-C."""
    parser = argparse.ArgumentParser(description="One Triton Inference Server on this machine, for development.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="Fetch the server and end.")
    run = commands.add_parser("run", help="Run a server until Ctrl-C.")
    run.add_argument("--repository", type=Path, default=Path("attune-data/triton"), help="Its model repository.")
    run.add_argument("--port", type=int, default=8001, help="Port of its gRPC on 127.0.0.1.")
    arguments = parser.parse_args()
    try:
        if arguments.command == "fetch":
            print(fetch())
        else:
            _run(Triton(arguments.repository, arguments.port, arguments.repository.absolute().parent / "triton.log"))
    except TritonFailed as error:
        sys.exit(f"triton: {error}")


def _run(triton: Triton) -> None:
    stop: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.append(1))
    with triton:
        print(f"Triton answers on {triton.url}, its log is {triton.log}; Ctrl-C ends it.", flush=True)
        while not stop and triton.is_running:
            time.sleep(PAUSE_S)
    if not stop:
        raise TritonFailed(f"Triton ended by itself; see {triton.log}")


if __name__ == "__main__":
    main()
