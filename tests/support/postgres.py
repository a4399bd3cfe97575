"""A real PostgreSQL for tests and benchmarks: a server of its own in a temporary folder, on loopback.

The server refuses to run as root, so that root runs it as the user `postgres` of the Debian package. Run as a program,
this installs the package where it is missing and can be had: `python tests/support/postgres.py`.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

MISSING = "PostgreSQL is not installed; on Debian: apt-get install postgresql"
REQUIRED = "ATTUNE_REQUIRE_PARTS"
DEBIAN = Path("/usr/lib/postgresql")
PATIENCE_S, STARTS = 60.0, 5
# The test suite opens a database a test, and loses nothing if the machine fails.
NOT_DURABLE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


def programs() -> Path | None:
    """The folder of initdb and postgres, the newest release first; None if it is not installed."""
    releases = sorted(DEBIAN.glob("*/bin"), key=lambda folder: float(folder.parent.name), reverse=True)
    found = [folder for folder in releases if (folder / "initdb").exists()]
    if found:
        return found[0]
    initdb = shutil.which("initdb")
    return Path(initdb).parent if initdb else None


class PostgresServer:
    """A running server. `password` is that of its one user, `attune`."""

    def __init__(self, bin_folder: Path, folder: Path, *, is_durable: bool = False) -> None:
        self.password = secrets.token_hex(8)
        self._bin_folder, self._folder = bin_folder, folder
        self._settings = ["listen_addresses=127.0.0.1", f"unix_socket_directories={folder}"]
        self._settings += () if is_durable else NOT_DURABLE
        self._account: dict[str, Any] = _account(folder)
        self._initialise()
        self._log = (folder / "log").open("wb")
        for _ in range(STARTS):  # another program may take the free port first
            self.port = _free_port()
            self.process = self._start()
            if self._is_ready():
                return
        raise RuntimeError(f"PostgreSQL does not start: {(folder / 'log').read_text()}")

    def url(self, schema: str, *, with_password: bool = True) -> str:
        """SQLAlchemy's URL of a schema, which is created if it is not there: a database of its own to its users."""
        with psycopg.connect(self._address(), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        user = f"attune:{self.password}" if with_password else "attune"
        return f"postgresql+psycopg://{user}@127.0.0.1:{self.port}/postgres?options=-csearch_path%3D{schema}"

    def _address(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=attune password={self.password} dbname=postgres"

    def cpu_s(self) -> float:
        """CPU seconds that the server and its sessions have used, those that have ended included."""
        pids = [self.process.pid, *_children(self.process.pid)]
        return sum(_cpu_s(pid, with_ended=pid == self.process.pid) for pid in pids)

    def stop(self) -> None:
        """Ends the server, its sessions with it; nobody needs its data any more."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(PATIENCE_S)
        self._log.close()

    def _initialise(self) -> None:
        password_file = self._folder / "password"
        password_file.write_text(self.password)
        password_file.chmod(0o644)
        command = [self._bin_folder / "initdb", "-D", self._folder / "data", "-U", "attune", "--pwfile", password_file]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"]
        subprocess.run(command, check=True, capture_output=True, **self._account)
        password_file.unlink()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [str(self._bin_folder / "postgres"), "-D", str(self._folder / "data")]
        command += [part for setting in (f"port={self.port}", *self._settings) for part in ("-c", setting)]
        return subprocess.Popen(command, stdout=self._log, stderr=self._log, **self._account)

    def _is_ready(self) -> bool:
        """Waits for the server to take connections; False if it ends instead."""
        deadline = time.monotonic() + PATIENCE_S
        asked = [self._bin_folder / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while self.process.poll() is None and time.monotonic() < deadline:
            if subprocess.run(asked, check=False).returncode == 0:
                return True
            time.sleep(0.05)
        self.process.kill()
        self.process.wait()
        return False


@contextmanager
def running(*, is_durable: bool = False) -> Iterator[PostgresServer]:
    """A server in a folder of its own that goes with it. RuntimeError if PostgreSQL is not installed."""
    bin_folder = programs()
    if bin_folder is None:
        raise RuntimeError(MISSING)
    # Not below pytest's own folder, which other users may not enter.
    folder = Path(tempfile.mkdtemp(prefix="attune-postgres-"))
    try:
        server = PostgresServer(bin_folder, folder, is_durable=is_durable)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server a test process. Without PostgreSQL the test is skipped, or fails if ATTUNE_REQUIRE_PARTS is set."""
    if programs() is None:
        if os.environ.get(REQUIRED):
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    with running() as server:
        yield server


def _account(folder: Path) -> dict[str, Any]:
    """Who runs the server, for subprocess; gives the folder to them."""
    if os.geteuid() != 0:
        return {}
    owner = pwd.getpwnam("postgres")
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": [], "cwd": folder}


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _cpu_s(pid: int, *, with_ended: bool) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = [int(field) for field in fields[11 : 15 if with_ended else 13]]
    return sum(ticks) / os.sysconf("SC_CLK_TCK")


def install() -> int:
    """Installs PostgreSQL through apt-get where it is missing and this user may; the exit status."""
    if programs() is not None:
        return 0
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "--yes", "--no-install-recommends", "postgresql"]):
            subprocess.run(["apt-get", "--quiet", *command], check=False, env=environment, stdout=subprocess.DEVNULL)
    if programs() is None:
        print(f"{MISSING}. Tests that need it are skipped.", file=sys.stderr)
        return 1 if os.environ.get(REQUIRED) else 0
    return 0


if __name__ == "__main__":
    sys.exit(install())
