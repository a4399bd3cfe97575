"""Response tokens a second through a whole PPO iteration, against TRL's PPOTrainer on the same work and machine.

    python tests/benchmarks/ppo.py --trl .cache/trl/bin/python --rounds 5

An iteration generates 64 responses of 64 tokens to prompts of 16, scores them, takes the reference's log-probabilities
and the critic's values, updates once (one epoch, one minibatch) and, on Attune's side, publishes the weights and has
the policy server swap to them; the gate is left out. Sides run in turn, one iteration each a round, in processes of
their own. The ratio is of the medians, against TRL in the faster of its two precisions. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ppo_work import made_work

HERE = Path(__file__).parent
PEERS = ("float32", "bfloat16")
WARM_UP = 2


class Side:
    """A child that does one iteration for each line it is sent."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        self._until("ready")

    def iteration(self) -> dict[str, Any]:
        assert self._child.stdin is not None
        self._child.stdin.write("\n")
        self._child.stdin.flush()
        found: dict[str, Any] = json.loads(self._until("{"))
        self._until("ready")
        return found

    def _until(self, start: str) -> str:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            if line.startswith(start):
                return line
        raise SystemExit(f"{self._child.args} ended with status {self._child.wait()}; what it said stands above")


@contextmanager
def side(command: Sequence[str]) -> Iterator[Side]:
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Side(child)
    finally:
        assert child.stdin is not None
        child.stdin.close()
        child.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trl", type=Path, required=True, help="The interpreter that has TRL.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", action="append", choices=PEERS, help="Precisions of TRL; default: both.")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="A setting of the trainer.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="attune-bench-ppo-") as made, ExitStack() as stack:
        folder = Path(made)
        parameters = made_work(folder)
        flags = [part for setting in arguments.set for part in ("--set", setting)]
        commands = {"attune": [sys.executable, str(HERE / "ppo_attune.py"), made, *flags]}
        for dtype in arguments.peer or PEERS:
            commands[f"trl {dtype}"] = [str(arguments.trl), str(HERE / "ppo_trl.py"), made, dtype]
        sides = {name: stack.enter_context(side(command)) for name, command in commands.items()}
        found = rounds(sides, arguments.rounds)
    report(found, parameters)


def rounds(sides: dict[str, Side], count: int) -> dict[str, list[dict[str, Any]]]:
    """The iterations of each side, in turn, after some to warm up."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for number in range(WARM_UP + count):
        for name, one in sides.items():
            iteration = one.iteration()
            rate = iteration["tokens"] / iteration["seconds"]
            print(f"round {number - WARM_UP + 1}, {name}: {rate:,.0f} tokens a second", file=sys.stderr, flush=True)
            if number >= WARM_UP:
                found[name].append(iteration)
    return found


def report(found: dict[str, list[dict[str, Any]]], parameters: int) -> None:
    rates = {name: statistics.median(i["tokens"] / i["seconds"] for i in all_) for name, all_ in found.items()}
    print(f"{parameters:,} parameters")
    for name, rate in rates.items():
        print(f"{name:16} {rate:8,.0f} response tokens a second")
    parts = [iteration["parts"] for iteration in found["attune"]]
    for part in parts[0]:
        print(f"  {part:14} {statistics.median(p[part] for p in parts):8.3f} s")
    fastest = max(rate for name, rate in rates.items() if name != "attune")
    figures = {"tokens_per_s": {name: round(rate, 1) for name, rate in rates.items()}}
    print(json.dumps({"name": "ppo", "ratios": {"trl": round(rates["attune"] / fastest, 3)}, **figures}))


if __name__ == "__main__":
    main()
