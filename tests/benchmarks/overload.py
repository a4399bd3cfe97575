"""A policy server asked for ten times what it can do, and one whose callers go away: it keeps its word and its size.

    python tests/benchmarks/overload.py --seconds 60

First a closed loop finds how many calls a second the process answers. Then calls begin at ten times that rate, each
with a deadline, whether or not earlier ones came back. `accepted` were answered in time, `accepted_late` neither
answered in time nor refused. `refusal_p99_ms` is of all that were refused, also those that were refused only after they
had waited: from before the call was sent until its status was there. The caller is a process of its own, on the same
cores, that sends ready bytes. What it and the machine add is shown by an echo server, which does nothing, called by the
same loop at a tenth of the rate: `echo_p99_ms`. Last, streams are cancelled, every other one before it has a token.

Memory is what the process holds (resident), from a quarter into each part to its end. `slots_taken` are completions
that still run or wait once all streams are cancelled. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attune.client import NO_RETRY
from attune.client.control import PolicyControlClient
from overload_load import Answers, cancels, capacity, flood
from policies import Policies
from policy_server import PolicyServer, policy_server
from processes import fail_if_dead, free_port, percentile_ms, process, received, wait_for

HERE = Path(__file__).parent
SETTINGS = ["threads=1", "engine.nice=5"]
SPAWN = multiprocessing.get_context("spawn")
AT_ONCE = 64
CAPACITY_S, CANCELS_S, FREED_S = 10.0, 600.0, 10.0


@dataclass(frozen=True)
class Flooded:
    """What became of the calls, of the echoes beside them, and of the server's memory."""

    answers: Answers
    echoes_s: list[float]
    growth_mib: float


@dataclass(frozen=True)
class Cancelled:
    """How streams ended, what stayed taken, and what became of the server's memory."""

    statuses: dict[str, int]
    slots_taken: int
    growth_mib: float
    took_s: float


@contextmanager
def child(main: Any, *arguments: Any) -> Iterator[tuple[Any, Any]]:
    """`main(*arguments, reports)` in a process of its own; yields that and the queue of its reports."""
    reports = SPAWN.Queue()
    running = SPAWN.Process(target=main, args=(*arguments, reports), daemon=True)
    running.start()
    yield running, reports
    running.join()


def capacity_of(server: PolicyServer) -> float:
    with child(capacity, server.address, AT_ONCE, CAPACITY_S) as (running, reports):
        return received(reports, [running])


def flooded(server: PolicyServer, calls_per_s: float, options: argparse.Namespace) -> Flooded:
    stop, echo = SPAWN.Value("b", 0), f"127.0.0.1:{free_port()}"
    with (
        process([sys.executable, str(HERE / "echo_server.py"), echo.rpartition(":")[2]], echo),
        child(flood, server.address, echo, calls_per_s, options.deadline, stop) as (running, reports),
    ):
        time.sleep(options.seconds / 4)
        before = server.resident_mib()
        time.sleep(3 * options.seconds / 4)
        fail_if_dead([running])
        growth = server.resident_mib() - before
        stop.value = 1
        answers, echoes_s = received(reports, [running])
    return Flooded(answers, echoes_s, growth)


def cancelled(server: PolicyServer, count: int) -> Cancelled:
    done, started = SPAWN.Value("Q", 0), time.monotonic()
    with child(cancels, server.address, AT_ONCE, count, done) as (running, reports):
        wait_for(lambda: done.value > count / 4, CANCELS_S, "too few streams were cancelled in time", [running])
        before = server.resident_mib()
        statuses = received(reports, [running])
    took_s = time.monotonic() - started
    with PolicyControlClient(server.control_address, NO_RETRY) as control:
        taken = _slots_taken(control)
    return Cancelled(dict(statuses), taken, server.resident_mib() - before, took_s)


def _slots_taken(control: PolicyControlClient) -> int:
    """Those that are not free after FREED_S."""
    deadline = time.monotonic() + FREED_S
    while True:
        status = control.status()
        taken = status.running_completions + status.queued_completions
        if not taken or time.monotonic() > deadline:
            return taken
        time.sleep(0.05)


def figures(rate: float, flood: Flooded, gone: Cancelled) -> dict[str, object]:
    answers = flood.answers
    return {
        "name": "overload",
        "capacity_per_s": round(rate, 1),
        "accepted": answers.accepted,
        "accepted_late": answers.late,
        "refused": len(answers.refusals_s),
        "failed": answers.failed.total(),
        "refusal_p99_ms": percentile_ms(answers.refusals_s, 0.99),
        "echo_p99_ms": percentile_ms(flood.echoes_s, 0.99),
        "memory_growth_mib": round(flood.growth_mib, 1),
        "cancelled": gone.statuses.get("CANCELLED", 0),
        "cancels_memory_growth_mib": round(gone.growth_mib, 1),
        "slots_taken": gone.slots_taken,
    }


def table(flood: Flooded, gone: Cancelled) -> str:
    lines = [f"{'ms':12}{'calls':>8}{'p50':>8}{'p90':>8}{'p99':>8}{'p99.9':>8}{'longest':>9}"]
    for name, seconds in (("refusals", flood.answers.refusals_s), ("echoes", flood.echoes_s)):
        shares = (0.5, 0.9, 0.99, 0.999)
        lines.append(
            f"{name:12}{len(seconds):8}"
            + "".join(f"{percentile_ms(seconds, share):8}" for share in shares)
            + f"{percentile_ms(seconds, 1.0):9}"
        )
    lines += [f"failed: {count} {why}" for why, count in flood.answers.failed.most_common(5)]
    lines.append(f"cancelled streams ended {gone.statuses} in {gone.took_s:.0f} s")
    return "\n".join(lines)


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the overload lasts")
    parser.add_argument("--times", type=float, default=10.0, help="what is asked for, as a multiple of the capacity")
    parser.add_argument("--deadline", type=float, default=10.0, metavar="SECONDS", help="of each call")
    parser.add_argument("--cancels", type=int, default=10_000, help="streams that are cancelled")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the policy")
    return parser.parse_args(arguments)


def main() -> None:
    options = options_of()
    with tempfile.TemporaryDirectory(prefix="attune-bench-") as name:
        Policies(Path(name), 1)
        with policy_server(Path(name), [*SETTINGS, *options.set]) as server:
            rate = capacity_of(server)
            print(f"{rate:.1f} calls a second are its capacity", file=sys.stderr)
            flood = flooded(server, options.times * rate, options)
            print("the overload is over; streams are cancelled", file=sys.stderr)
            gone = cancelled(server, options.cancels)
    print(table(flood, gone))
    print(json.dumps(figures(rate, flood, gone)))


if __name__ == "__main__":
    main()
