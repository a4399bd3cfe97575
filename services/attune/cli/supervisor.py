"""The local supervisor: the services of one machine as child processes, restarted when they end.

What each service needs to find the others (ports, folders, registry) is laid out here, under one folder; every other
setting is the service's own. A child dies with the supervisor. A service that is misconfigured is not restarted: the
supervisor stops all and says why.

Threads: several torch processes on few cores slow each other down many times over when idle threads spin, so children
get a share of the cores and threads that sleep while they wait.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import attune
from attune.client.calls import AsyncConnection
from attune.domain.errors import ConfigurationInvalid, ServerUnavailable
from attune.platform.lifecycle import EXIT_MISCONFIGURED, PARENT_VARIABLE

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "policy": ("policy",),
    "reward": ("reward",),
    "ingest": ("feedback", "ingest"),
    "join": ("feedback", "join"),
    "trainer": ("trainer",),
}
PORTS: Mapping[str, Mapping[str, int]] = {
    "policy": {"app": 7001, "control": 7101, "metrics": 7201, "http": 7301},
    "reward": {"app": 7002, "control": 7102, "metrics": 7202},
    "ingest": {"app": 7003, "metrics": 7203, "http": 7303},
    "join": {"control": 7104, "metrics": 7204},
    "trainer": {"control": 7105, "metrics": 7205},
}
QUIET_THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "TOKENIZERS_PARALLELISM": "false"}
PAUSES_S, STEADY_S = (0.5, 15.0), 30.0
"""First and longest pause before a service is started again; one that ran for STEADY_S starts from the first."""
STOP_GRACE_S = 15.0


@dataclass(frozen=True)
class Endpoints:
    """Where the services of one supervisor listen: ports by service and use, all on loopback."""

    ports: Mapping[str, Mapping[str, int]]

    @classmethod
    def usual(cls) -> Endpoints:
        """The ports that every command expects."""
        return cls(PORTS)

    @classmethod
    def free(cls) -> Endpoints:
        """Ports that nobody uses now, for a run beside others."""
        with ExitStack() as stack:
            sockets = {
                service: {use: stack.enter_context(socket.socket()) for use in uses} for service, uses in PORTS.items()
            }
            for held in (held for uses in sockets.values() for held in uses.values()):
                held.bind(("127.0.0.1", 0))
            return cls({s: {use: held.getsockname()[1] for use, held in uses.items()} for s, uses in sockets.items()})

    def address(self, service: str, use: str) -> str:
        return f"127.0.0.1:{self.ports[service][use]}"

    def serving_address(self, service: str) -> str:
        """Where the health of a service is asked: its app port, or the control port if it has none."""
        return self.address(service, "app" if "app" in self.ports[service] else "control")

    def settings(self, service: str) -> list[str]:
        """The KEY=VALUE settings of a service's own ports."""
        return [
            f"{'metrics_port' if use == 'metrics' else f'{use}.port'}={n}" for use, n in self.ports[service].items()
        ]

    def save(self, folder: Path) -> None:
        """Writes endpoints.json, for people and tests that look for the services."""
        addresses = {s: {use: self.address(s, use) for use in uses} for s, uses in self.ports.items()}
        (folder / "endpoints.json").write_text(json.dumps(addresses, indent=2) + "\n")


def settings_of(folder: Path, endpoints: Endpoints, cores: int, kafka: Sequence[str] = ()) -> dict[str, list[str]]:
    """KEY=VALUE settings by service that make one system under `folder`; `kafka` are those of its cluster, if any."""
    registry, events = f"registry={folder / 'registry'}", [f"events_folder={folder / 'events'}", *kafka]
    own = {
        "policy": [registry, *events, f"cache_folder={folder / 'cache'}", f"threads={cores}"],
        "reward": [registry, f"cache_folder={folder / 'cache'}", f"threads={cores}"],
        "ingest": [*events],
        "join": [registry, *events, f"database=sqlite:///{folder / 'join.db'}"],
        "trainer": [
            registry,
            f"state_folder={folder / 'trainer'}",
            f"threads={cores}",
            f"addresses.policy={endpoints.address('policy', 'app')}",
            f"addresses.policy_control={endpoints.address('policy', 'control')}",
            f"addresses.reward={endpoints.address('reward', 'app')}",
            f"addresses.reward_control={endpoints.address('reward', 'control')}",
            f"addresses.join_control={endpoints.address('join', 'control')}",
        ],
    }
    return {service: [*settings, *endpoints.settings(service)] for service, settings in own.items()}


class Supervisor:
    """The services named in `settings`, each a child process whose output goes to `<folder>/logs/<service>.log`.

    `tell` gets one line whenever a service ends and is started again. `interpreters` name the Python of a service that
    has an environment of its own. Used inside one event loop.
    """

    def __init__(
        self,
        folder: Path,
        endpoints: Endpoints,
        settings: Mapping[str, Sequence[str]],
        tell: Callable[[str], None],
        pauses_s: tuple[float, float] = PAUSES_S,
        interpreters: Mapping[str, Path] | None = None,
    ) -> None:
        self.endpoints = endpoints
        self.restarts = dict.fromkeys(settings, 0)
        self._folder = folder
        self._settings = settings
        self._tell = tell
        self._pauses_s = pauses_s
        self._interpreters = interpreters or {}
        self._children: dict[str, asyncio.subprocess.Process] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}

    def start(self, services: Sequence[str]) -> None:
        """Starts services that do not run yet."""
        (self._folder / "logs").mkdir(parents=True, exist_ok=True)
        for service in services:
            if service not in self._keepers:
                self._keepers[service] = asyncio.create_task(self._keep(service), name=f"keep {service}")

    def pid(self, service: str) -> int | None:
        """The process id of a service, None while it does not run."""
        child = self._children.get(service)
        return child.pid if child and child.returncode is None else None

    async def wait_until_serving(self, services: Sequence[str], timeout_s: float) -> None:
        """Returns when all are SERVING; ServerUnavailable names the log of one that is not in time, and what ended a
        keeper rises."""
        waits = [asyncio.ensure_future(self._wait_for(service, timeout_s)) for service in services]
        together, failed = asyncio.gather(*waits), asyncio.ensure_future(self.failed())
        try:
            either: list[asyncio.Future[Any]] = [together, failed]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                failed.result()
            together.result()
        finally:
            for task in (failed, *waits):
                task.cancel()
            await asyncio.gather(together, failed, *waits, return_exceptions=True)

    async def failed(self) -> None:
        """Waits for a service that cannot be kept running, and raises why."""
        while True:
            done, _ = await asyncio.wait(self._keepers.values(), timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
            for keeper in done:
                keeper.result()

    async def stop(self) -> None:
        """Asks all to end, waits for them, and kills what does not end in time."""
        for keeper in self._keepers.values():
            keeper.cancel()
        await asyncio.gather(*self._keepers.values(), return_exceptions=True)
        running = [child for child in self._children.values() if child.returncode is None]
        for child in running:
            child.send_signal(signal.SIGTERM)
        ends = [asyncio.ensure_future(child.wait()) for child in running]
        if ends:
            await asyncio.wait(ends, timeout=STOP_GRACE_S)
        for child in running:
            if child.returncode is None:
                child.kill()
        await asyncio.gather(*ends)
        self._keepers.clear()

    async def _wait_for(self, service: str, timeout_s: float) -> None:
        connection = AsyncConnection(self.endpoints.serving_address(service))
        try:
            await connection.wait_until_serving(timeout_s)
        except ServerUnavailable as error:
            log = self._log(service)
            raise ServerUnavailable(
                f"{service} does not serve after {timeout_s:g} s; see {log}: {last_line(log)}"
            ) from error
        finally:
            await connection.close()

    async def _keep(self, service: str) -> None:
        """Runs one service for ever; ConfigurationInvalid if its settings are refused."""
        first_s, longest_s = self._pauses_s
        pause_s = first_s
        while True:
            started = time.monotonic()
            status = await self._run(service)
            if status == EXIT_MISCONFIGURED:
                raise ConfigurationInvalid(f"{service}: {self._last_words(service)}")
            pause_s = first_s if time.monotonic() - started > STEADY_S else pause_s
            why = f": {self._last_words(service)}" if status > 0 else ""
            again = f"is started again in {pause_s:g} s"
            self._tell(f"{service} ended with status {status} and {again}{why} ({self._log(service)})")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, longest_s)
            self.restarts[service] += 1

    async def _run(self, service: str) -> int:
        """One life of a service; its exit status."""
        arguments = [part for setting in self._settings[service] for part in ("--set", setting)]
        environment = os.environ | QUIET_THREADS | {PARENT_VARIABLE: str(os.getpid())}
        interpreter = self._interpreters.get(service)
        if interpreter:
            environment |= own_sources()
        with self._log(service).open("ab") as log:
            child = await asyncio.create_subprocess_exec(
                interpreter or sys.executable, "-m", "attune.cli.main", *COMMANDS[service], *arguments,
                env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._children[service] = child
        return await child.wait()

    def _last_words(self, service: str) -> str:
        return last_line(self._log(service)).removeprefix(f"attune {service}: ").removeprefix("the process ends: ")

    def _log(self, service: str) -> Path:
        return self._folder / "logs" / f"{service}.log"


def own_sources() -> dict[str, str]:
    """Variables by which another interpreter runs this Attune, if it is a checkout; else it has one of its own."""
    sources = Path(next(iter(attune.__path__))).parent
    return {} if sources.is_relative_to(sys.prefix) else {"PYTHONPATH": str(sources)}


def last_line(log: Path) -> str:
    """The last line of a log; its message if it is JSON."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    if not lines:
        return "the log is empty"
    try:
        return str(json.loads(lines[-1])["message"])
    except (ValueError, KeyError, TypeError):
        return lines[-1]
