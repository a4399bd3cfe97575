"""How much feedback ingest accepts for a core-second of its process, and how soon it acknowledges.

The real process (`attune feedback ingest`) on a real event log; load comes from processes of its own (feedback_load).
A core-second is CPU time of the ingest process alone, all its threads, user and system, as getrusage counts it. Beside
it in the same run: a bare grpc.aio echo of the same size, which is the floor of a call, and on Kafka the raw producer
of the same client. Each figure is the median of the rounds, in which all take turns.

Rows: batched is IngestFeedback with 100 events a call; streamed is StreamFeedback with 16 events a message,
streamed_alone with one; single is SubmitFeedback. The second part runs each at half of what one core carries, calls
beginning on time whether or not earlier ones came back. Then the join is measured (join.py), on both databases. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from feedback_load import Load
from kafka_beside import broker, raw_producer_events_per_core_s
from processes import Measured, free_port, measure, process

HERE = Path(__file__).parent


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


def log_settings(bootstrap: str) -> list[str]:
    """The settings of ingest for its event log: Kafka if there is a broker, else the embedded one."""
    return [f"kafka.bootstrap={bootstrap}"] if bootstrap else []


def loads(event_bytes: int) -> dict[str, Load]:
    """Closed loops that keep the server busy, by the name of their row."""
    return {
        "batched": Load("batch", "", events_per_call=100, in_flight=16, event_bytes=event_bytes),
        "streamed": Load("stream", "", events_per_call=16, in_flight=4, event_bytes=event_bytes),
        "streamed_alone": Load("stream", "", events_per_call=1, in_flight=4, event_bytes=event_bytes),
        "single": Load("single", "", in_flight=128, event_bytes=event_bytes),
        "echo": Load("echo", "", in_flight=128, event_bytes=event_bytes),
    }


def rounds(options: argparse.Namespace, settings: list[str]) -> dict[str, list[Measured]]:
    found: dict[str, list[Measured]] = {}
    kinds = loads(options.event_bytes)
    for number in range(options.rounds):
        for name in options.only or kinds:
            start = echo_process if name == "echo" else lambda: ingest_process(settings)
            with start() as (pid, address):
                load = replace(kinds[name], address=address)
                one = measure(pid, load, options.seconds, options.warm_up, options.senders)
            found.setdefault(name, []).append(one)
            progress(f"round {number + 1}, {name}: {one.events_per_core_s:,.0f} a core-second, {one.cores:.2f} cores")
    return found


def at_half_load(rates: dict[str, float], options: argparse.Namespace, settings: list[str]) -> dict[str, Measured]:
    """Each door at half the rate that one core of it would carry."""
    found = {}
    for name, load in loads(options.event_bytes).items():
        if name == "echo" or name not in rates:
            continue
        pace = rates[name] / 2 / load.events_per_call
        with ingest_process(settings) as (pid, address):
            paced = replace(load, address=address, calls_per_s=pace)
            found[name] = measure(pid, paced, options.seconds, options.warm_up, options.senders)
        progress(f"half load, {name}: p99 {found[name].percentile_ms(0.99):.1f} ms")
    return found


def progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def median_of(found: list[Measured]) -> float:
    return statistics.median(one.events_per_core_s for one in found)


def table(rates: dict[str, float], found: dict[str, list[Measured]], half: dict[str, Measured]) -> str:
    lines = [
        f"{'':16}{'events/core-s':>14}{'events/s':>10}{'cores':>7}{'half load: p50 ms':>19}{'p99 ms':>8}{'refused':>9}"
    ]
    for name, rate in rates.items():
        wall = statistics.median(one.events / one.wall_s for one in found[name])
        cores = statistics.median(one.cores for one in found[name])
        row = f"{name:16}{rate:14,.0f}{wall:10,.0f}{cores:7.2f}"
        if (one := half.get(name)) is not None:
            row += f"{one.percentile_ms(0.5):19.1f}{one.percentile_ms(0.99):8.1f}{one.refused_calls:9}"
        lines.append(row)
    return "\n".join(lines)


def join_figures(millions: str) -> dict[str, object]:
    """What the benchmark of the join says, in a process of its own; its table is printed."""
    command = [sys.executable, str(HERE / "join.py"), "--millions", millions, "--database", "sqlite,postgres"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    said, _, last = done.stdout.strip().rpartition("\n")
    print(said)
    return {name: value for name, value in json.loads(last).items() if name.startswith("join_")}


def figures(rates: dict[str, float], half: dict[str, Measured], options: argparse.Namespace) -> dict[str, object]:
    found: dict[str, object] = {"name": "ingest", "log": options.log, "event_bytes": options.event_bytes}
    found |= {f"{name}_events_per_core_s": round(rate) for name, rate in rates.items() if name != "echo"}
    if {"single", "echo"} <= rates.keys():
        found["single_over_echo"] = round(rates["single"] / rates["echo"], 3)
    if half:
        found["ack_p99_ms"] = round(max(one.percentile_ms(0.99) for one in half.values()), 2)
    return found


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", choices=["kafka", "sqlite"], default="kafka", help="the event log of ingest")
    parser.add_argument("--bootstrap", default="", metavar="HOST:PORT", help="a Kafka broker; absent: one of its own")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a measured window")
    parser.add_argument("--warm-up", type=float, default=2.0, help="load before a window")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured, in turn")
    parser.add_argument("--senders", type=int, default=1, help="load processes")
    parser.add_argument("--event-bytes", type=int, default=512)
    parser.add_argument("--only", action="append", choices=list(loads(512)), help="repeatable")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of ingest")
    parser.add_argument(
        "--join",
        default="1",
        metavar="MILLIONS",
        help="events in the join's store at which it is measured, such as 1,3,10; 0: leave it out (default: 1)",
    )
    return parser.parse_args(arguments)


def main() -> None:
    options = options_of()
    with broker(options.bootstrap) if options.log == "kafka" else nullcontext("") as bootstrap:
        settings = [*log_settings(bootstrap), *options.set]
        found = rounds(options, settings)
        rates = {name: median_of(measured) for name, measured in found.items()}
        half = at_half_load(rates, options, settings)
        raw = raw_producer_events_per_core_s(bootstrap, options.seconds) if bootstrap else None
    result = figures(rates, half, options)
    print(table(rates, found, half))
    if raw is not None:
        print(f"{'raw producer':16}{raw:14,.0f}")
        result["raw_producer_events_per_core_s"] = round(raw)
    if options.join != "0":
        result |= join_figures(options.join)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
