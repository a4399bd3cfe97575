"""How much feedback ingest accepts for a core-second of its process, and how soon it acknowledges.

The real process (`attune feedback ingest`) on a real event log; load comes from processes of its own (feedback_load).
A core-second is CPU time of the ingest process alone, all its threads, user and system, as getrusage counts it. Beside
it in the same run: a bare grpc.aio echo of the same size, which is the floor of a call. Each figure is the median of
the rounds. `python tests/benchmarks/ingest.py --help`; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import queue
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from feedback_load import Load, run

HERE = Path(__file__).parent
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
START_S = 60.0


@dataclass(frozen=True)
class Measured:
    """One window: events acknowledged, CPU and wall seconds, and how long calls took."""

    events: int
    cpu_s: float
    wall_s: float
    latencies_s: tuple[float, ...]

    @property
    def events_per_core_s(self) -> float:
        return self.events / self.cpu_s

    @property
    def cores(self) -> float:
        return self.cpu_s / self.wall_s

    def percentile_ms(self, share: float) -> float:
        ordered = sorted(self.latencies_s)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


@contextmanager
def process(command: list[str], address: str) -> Iterator[int]:
    """A server as a child process; yields its pid once its port answers."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        until_listening(child, address)
        yield child.pid
    finally:
        child.terminate()
        child.wait(START_S)


def until_listening(child: subprocess.Popen[bytes], address: str) -> None:
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection((host, int(port)), 1.0).close()
            return
        except OSError:
            if child.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{child.args} does not listen on {address}") from None
            time.sleep(0.05)


def measure(pid: int, load: Load, seconds: float, warm_up_s: float, senders: int = 1) -> Measured:
    """Events acknowledged in a window while `senders` processes send."""
    spawn = multiprocessing.get_context("spawn")
    counts = [spawn.Value("Q", 0) for _ in range(senders)]
    stop, latencies = spawn.Value("b", 0), spawn.Queue()
    shared = replace(load, calls_per_s=load.calls_per_s / senders)
    children = [spawn.Process(target=run, args=(shared, count, stop, latencies), daemon=True) for count in counts]
    for child in children:
        child.start()
    wait_for(lambda: all(count.value for count in counts), children)
    time.sleep(warm_up_s)
    before, cpu_before, started = sum(c.value for c in counts), cpu_s(pid), time.monotonic()
    time.sleep(seconds)
    after, cpu_after, ended = sum(c.value for c in counts), cpu_s(pid), time.monotonic()
    stop.value = 1
    took = [latency for _ in children for latency in received(latencies, children)]
    for child in children:
        child.join()
    return Measured(after - before, cpu_after - cpu_before, ended - started, tuple(took))


def received(latencies: multiprocessing.Queue[list[float]], children: list[multiprocessing.Process]) -> list[float]:
    while True:
        try:
            return latencies.get(timeout=1.0)
        except queue.Empty:
            fail_if_dead(children)


def wait_for(condition: Callable[[], bool], children: list[multiprocessing.Process]) -> None:
    deadline = time.monotonic() + START_S
    while not condition():
        fail_if_dead(children)
        if time.monotonic() > deadline:
            raise SystemExit("the load did not begin in time")
        time.sleep(0.02)


def fail_if_dead(children: list[multiprocessing.Process]) -> None:
    if any(child.exitcode for child in children):
        raise SystemExit("a load process failed; what it said stands above")


@contextmanager
def ingest_process(settings: list[str]) -> Iterator[tuple[int, str]]:
    """The ingest process with an event log of its own; yields pid and address."""
    address = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory(prefix="attune-bench-") as folder:
        own = [f"app.port={address.rpartition(':')[2]}", "metrics_port=0", "log_level=warning"]
        own += [f"events_folder={folder}", *settings]
        flags = [part for setting in own for part in ("--set", setting)]
        with process([sys.executable, "-m", "attune.cli.main", "feedback", "ingest", *flags], address) as pid:
            yield pid, address


@contextmanager
def echo_process() -> Iterator[tuple[int, str]]:
    address = f"127.0.0.1:{free_port()}"
    with process([sys.executable, str(HERE / "echo_server.py"), address.rpartition(":")[2]], address) as pid:
        yield pid, address


def loads(event_bytes: int) -> dict[str, Load]:
    """Closed loops that keep the server busy, by the name of their row."""
    return {
        "batched": Load("batch", "", events_per_call=100, in_flight=16, event_bytes=event_bytes),
        "streamed": Load("stream", "", events_per_call=16, in_flight=4, event_bytes=event_bytes),
        "streamed_alone": Load("stream", "", events_per_call=1, in_flight=4, event_bytes=event_bytes),
        "single": Load("single", "", in_flight=64, event_bytes=event_bytes),
        "echo": Load("echo", "", in_flight=64, event_bytes=event_bytes),
    }


def rounds(options: argparse.Namespace) -> dict[str, list[Measured]]:
    found: dict[str, list[Measured]] = {}
    kinds = loads(options.event_bytes)
    for number in range(options.rounds):
        for name in options.only or kinds:
            start = echo_process if name == "echo" else lambda: ingest_process(options.set)
            with start() as (pid, address):
                load = replace(kinds[name], address=address)
                one = measure(pid, load, options.seconds, options.warm_up, options.senders)
            found.setdefault(name, []).append(one)
            progress(f"round {number + 1}, {name}: {one.events_per_core_s:,.0f} a core-second, {one.cores:.2f} cores")
    return found


def at_half_load(rates: dict[str, float], options: argparse.Namespace) -> dict[str, Measured]:
    """Each door at half the rate that one core of it would carry."""
    found = {}
    for name, load in loads(options.event_bytes).items():
        if name == "echo" or name not in rates:
            continue
        pace = rates[name] / 2 / load.events_per_call
        with ingest_process(options.set) as (pid, address):
            paced = replace(load, address=address, calls_per_s=pace)
            found[name] = measure(pid, paced, options.seconds, options.warm_up, options.senders)
        progress(f"half load, {name}: p99 {found[name].percentile_ms(0.99):.1f} ms")
    return found


def progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def median_of(found: list[Measured]) -> float:
    return statistics.median(one.events_per_core_s for one in found)


def table(rates: dict[str, float], found: dict[str, list[Measured]], half: dict[str, Measured]) -> str:
    lines = [f"{'':16}{'events/core-s':>16}{'events/s':>12}{'cores':>8}{'half load: p50':>17}{'p99 ms':>9}"]
    for name, rate in rates.items():
        wall = statistics.median(one.events / one.wall_s for one in found[name])
        cores = statistics.median(one.cores for one in found[name])
        tail = f"{half[name].percentile_ms(0.5):17.1f}{half[name].percentile_ms(0.99):9.1f}" if name in half else ""
        lines.append(f"{name:16}{rate:16,.0f}{wall:12,.0f}{cores:8.2f}{tail}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a measured window")
    parser.add_argument("--warm-up", type=float, default=2.0, help="load before a window")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured, in turn")
    parser.add_argument("--senders", type=int, default=1, help="load processes")
    parser.add_argument("--event-bytes", type=int, default=512)
    parser.add_argument("--only", action="append", choices=list(loads(512)), help="repeatable")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of ingest")
    options = parser.parse_args()
    found = rounds(options)
    rates = {name: median_of(measured) for name, measured in found.items()}
    half = at_half_load(rates, options)
    print(table(rates, found, half))
    figures: dict[str, object] = {"name": "ingest", "event_bytes": options.event_bytes}
    figures |= {f"{name}_events_per_core_s": round(rate) for name, rate in rates.items() if name != "echo"}
    if {"single", "echo"} <= rates.keys():
        figures["single_over_echo"] = round(rates["single"] / rates["echo"], 3)
    if half:
        figures["ack_p99_ms"] = round(max(one.percentile_ms(0.99) for one in half.values()), 2)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
