"""Tokens a second of many streams through Attune's gRPC, against transformers and vLLM on the same work and machine.

    python tests/benchmarks/generation.py --rounds 5

All sides run in turn, each in processes of its own, on one list of requests: prompts of 8 to 32 tokens, lengths forced
to a number uniform in 16 to 128, a Llama shape of 3.7 million parameters. Streams are closed loops, 64 at once. The
ratios are of the medians. The floor is the arithmetic of the products over the best rate that one product of this
machine shows. `service_cpu_share` is the CPU time of all threads of the policy process but the engine's, over the
engine's; `added_ttft_p50_ms` is the median time to the first token of one stream through gRPC, less that of the engine
called in-process. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from attune.policy.packed_llama import PackedLinear
from generation_load import Piece, tokens_of
from generation_sides import attune_side, engine_worker, transformers_worker, vllm_side, worker_side
from generation_work import made_model, made_work, published

sys.path.insert(0, str(Path(__file__).parents[2] / "deploy" / "vllm"))
from installation import make

WARM_UP_REQUESTS, FIRST_TOKEN_REQUESTS, FIRST_TOKEN_ROUNDS = 64, 40, 5
PEAK_SIDE = 1024


def rounds(sides: dict[str, Any], work: Sequence[Piece], count: int) -> dict[str, list[float]]:
    """Tokens a second of each side in each round; after one run of each on a part of the work."""
    for name, side in sides.items():
        side.run(work[:WARM_UP_REQUESTS])
        progress(f"{name} is warm")
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(count):
        for name, side in sides.items():
            found[name].append(tokens_of(work) / side.run(work).wall_s)
            progress(f"round {number + 1}, {name}: {found[name][-1]:,.0f} tokens a second")
    return found


def added_first_token_ms(folder: Path, work: Sequence[Piece], settings: Sequence[str]) -> tuple[float, float]:
    """What the door adds, and the engine's own, p50 of one stream."""
    over_grpc: list[float] = []
    in_process: list[float] = []
    asked = work[:FIRST_TOKEN_REQUESTS]
    with attune_side(folder, 1, settings) as door, worker_side(engine_worker, folder / "model") as engine:
        for side in (door, engine):
            side.run(asked)
        for _ in range(FIRST_TOKEN_ROUNDS):
            over_grpc += door.run(asked).first_token_s
            in_process += engine.run(asked).first_token_s
    own = statistics.median(in_process)
    return 1000 * (statistics.median(over_grpc) - own), 1000 * own


def peak_flops() -> float:
    """Floating-point operations a second of the best product found here."""
    linear = torch.nn.Linear(PEAK_SIDE, PEAK_SIDE, bias=False)
    x = torch.randn(PEAK_SIDE, PEAK_SIDE)
    with torch.inference_mode():
        packed = PackedLinear(linear)
        best_s = min(_seconds(product, x) for product in (linear, packed) for _ in range(20))
    return 2 * PEAK_SIDE**3 / best_s


def _seconds(product: Any, x: torch.Tensor) -> float:
    started = time.perf_counter()
    product(x)
    return time.perf_counter() - started


def table(found: dict[str, list[float]], floor: float) -> str:
    lines = [f"{'':14}{'tokens/s':>10}{'min':>9}{'max':>9}{'of the floor':>14}{'Attune over it':>16}"]
    ours = statistics.median(found["attune"])
    for name, rates in found.items():
        median = statistics.median(rates)
        row = f"{name:14}{median:10,.0f}{min(rates):9,.0f}{max(rates):9,.0f}{median / floor:14.1%}"
        lines.append(row + (f"{ours / median:16.2f}" if name != "attune" else ""))
    return "\n".join([*lines, f"{'floor':14}{floor:10,.0f}"])


def progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each side is measured, in turn")
    parser.add_argument("--requests", type=int, default=512, help="pieces of work in a round")
    parser.add_argument("--streams", type=int, default=64, help="requests at once")
    parser.add_argument("--peer", action="append", choices=["transformers", "vllm"], help="repeatable; absent: both")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the policy")
    return parser.parse_args(arguments)


def main() -> None:
    options = options_of()
    peers = options.peer or ["transformers", "vllm"]
    python = make() if "vllm" in peers else None
    settings = ["threads=1", *options.set]
    with tempfile.TemporaryDirectory(prefix="attune-bench-") as temporary, ExitStack() as stack:
        folder = Path(temporary)
        model = folder / "model"
        tokenizer, parameters = made_model(model)
        published(model, folder / "registry")
        work = made_work(tokenizer, options.requests)
        floor = peak_flops() * tokens_of(work) / (2 * parameters * sum(p.tokens + len(p.prompt_ids) for p in work))
        attune = stack.enter_context(attune_side(folder, options.streams, settings))
        sides: dict[str, Any] = {"attune": attune}
        if "transformers" in peers:
            sides["transformers"] = stack.enter_context(worker_side(transformers_worker, model))
        if python is not None:
            sides["vllm"] = stack.enter_context(vllm_side(python, model, options.streams))
        found = rounds(sides, work, options.rounds)
        attune.run(work)
        share = attune.service_share
        stack.close()
        added_ms, own_ms = added_first_token_ms(folder, work, settings)
    print(table(found, floor))
    print(f"time to first token of one stream: engine {own_ms:.2f} ms, the door adds {added_ms:.2f} ms")
    ours = statistics.median(found["attune"])
    result = {
        "name": "generation",
        "ratios": {peer: round(ours / statistics.median(found[peer]), 3) for peer in peers},
        "tokens_per_s": {name: round(statistics.median(rates)) for name, rates in found.items()},
        "service_cpu_share": round(share, 4),
        "added_ttft_p50_ms": round(added_ms, 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
