"""Ingest and join as real processes that can be killed and started again."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broker import free_ports

STOP_TIMEOUT_S = 60.0


def free_port() -> int:
    """A port of loopback that nobody uses, and that no outgoing connection takes while its process is away."""
    return free_ports(1)[0]


class Process:
    """A service that can be killed and started again at the same port."""

    def __init__(
        self, folder: Path, name: str, port_key: str, settings: list[str], environment: dict[str, str] | None = None
    ) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._command = [sys.executable, "-m", "attune.cli.main", "feedback", name, "--set", "metrics_port=0"]
        for setting in (f"{port_key}={self.port}", "log_level=error", *settings):
            self._command += ["--set", setting]
        self._environment = os.environ | (environment or {})
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def resident_mib(self) -> float:
        """Memory that the process holds now (Linux)."""
        statm = Path(f"/proc/{self._process.pid}/statm").read_text()
        return int(statm.split()[1]) * resource.getpagesize() / 2**20

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, cwd=self._folder, env=self._environment)

    def kill(self) -> None:
        assert self.is_running
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def end(self) -> None:
        """Kills it if it still runs."""
        if self._process is not None and self.is_running:
            self.kill()

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        self._process.terminate()
        return self._process.wait(STOP_TIMEOUT_S)


@contextmanager
def running(process: Process) -> Iterator[Process]:
    process.start()
    try:
        yield process
    finally:
        process.end()
