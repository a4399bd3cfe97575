"""Servers under load: child processes with their CPU time, the load on them, and what a window of it showed."""

from __future__ import annotations

import math
import multiprocessing
import os
import queue
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from feedback_load import Load, run

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
START_S = 120.0


@dataclass(frozen=True)
class Measured:
    """One window: events acknowledged, CPU and wall seconds, how long calls took, and calls that were refused."""

    events: int
    cpu_s: float
    wall_s: float
    latencies_s: tuple[float, ...]
    refused_calls: int = 0

    @property
    def events_per_core_s(self) -> float:
        return self.events / self.cpu_s

    @property
    def cores(self) -> float:
        return self.cpu_s / self.wall_s

    def percentile_ms(self, share: float) -> float:
        ordered = sorted(self.latencies_s)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def percentile_ms(seconds: Sequence[float], share: float) -> float:
    """The share of the durations that is not longer, in milliseconds; NaN of none."""
    ordered = sorted(seconds)
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else math.nan


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far, all threads, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


@contextmanager
def process(command: list[str], address: str, start_s: float = START_S) -> Iterator[int]:
    """A server as a child process; yields its pid once its port answers, within `start_s`."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        _until_listening(child, address, start_s)
        yield child.pid
    finally:
        child.terminate()
        child.wait(START_S)


def _until_listening(child: subprocess.Popen[bytes], address: str, start_s: float) -> None:
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + start_s
    while True:
        try:
            socket.create_connection((host, int(port)), 1.0).close()
            return
        except OSError:
            if child.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{child.args} does not listen on {address}") from None
            time.sleep(0.05)


def measure(pid: int, load: Load, seconds: float, warm_up_s: float, senders: int = 1) -> Measured:
    """What a server did in a window while `senders` processes share the load."""
    spawn = multiprocessing.get_context("spawn")
    counts = [spawn.Value("Q", 0) for _ in range(senders)]
    stop, reports = spawn.Value("b", 0), spawn.Queue()
    shared = replace(load, calls_per_s=load.calls_per_s / senders)
    children = [spawn.Process(target=run, args=(shared, count, stop, reports), daemon=True) for count in counts]
    for child in children:
        child.start()
    wait_for(lambda: all(count.value for count in counts), START_S, "the load did not begin in time", children)
    time.sleep(warm_up_s)
    before, cpu_before, started = sum(c.value for c in counts), cpu_s(pid), time.monotonic()
    time.sleep(seconds)
    after, cpu_after, ended = sum(c.value for c in counts), cpu_s(pid), time.monotonic()
    stop.value = 1
    latencies: list[float] = []
    refused = 0
    for _ in children:
        some, more = received(reports, children)
        latencies, refused = latencies + [took for at, took in some if started <= at <= ended], refused + more
    for child in children:
        child.join()
    return Measured(after - before, cpu_after - cpu_before, ended - started, tuple(latencies), refused)


def received(reports: Any, children: Sequence[Any]) -> Any:
    """What one of the children puts there; SystemExit if one fails first."""
    while True:
        try:
            return reports.get(timeout=1.0)
        except queue.Empty:
            fail_if_dead(children)


def wait_for(condition: Callable[[], bool], timeout_s: float, complaint: str, children: Sequence[Any] = ()) -> None:
    """Returns once it is true; SystemExit if it is not in time, or if a child fails first."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        fail_if_dead(children)
        if time.monotonic() > deadline:
            raise SystemExit(complaint)
        time.sleep(0.02)


def fail_if_dead(children: Sequence[Any]) -> None:
    """SystemExit if a child has failed."""
    if any(child.exitcode for child in children):
        raise SystemExit("a load process failed; what it said stands above")
