"""Pairs a second through Attune's reward gRPC, against a Triton server on the same model, pairs and cores.

    python tests/benchmarks/scoring.py --rounds 5

Pairs have 16 to 256 tokens, uniform; 64 callers send one pair each and wait. The model is a Llama shape of 3.7 million
parameters. Both sides run in turn, on all cores of this machine, callers included; the ratio is of the medians. Triton
batches requests of one shape, so all are padded to 256 tokens there (`triton`); `triton_64` pads them to the next
multiple of 64, for fewer tokens and smaller batches. Both sides' scores are compared. The floor is the arithmetic of
the products for the real tokens over the best rate that one product of this machine shows. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from attune.domain.prompts import Prompt
from attune.domain.revisions import STABLE, ModelName
from attune.modeling.loading import PolicyShape, new_policy
from attune.modeling.reward_model import LoadedRewardModel, reward_input, reward_model_on, save_reward_model
from attune.modeling.tokenizer import render_prompt, train_tokenizer
from attune.platform.registry.registry import Registry
from scoring_sides import THREADS, Piece, Run, attune_side, triton_side
from transformers import PreTrainedTokenizerBase

MODEL = ModelName("rewards", "support")
SHAPE = PolicyShape(family="llama", layers=4, width=256, heads=4, mlp_width=688, context=256)
VOCABULARY = 2048
TOKENS = (16, 256)
PADDINGS = {"triton": TOKENS[1], "triton_64": 64}
TOLERANCE = 1e-3
PEAK_SIDE = 1024
SYLLABLES = [a + b for a in "bdfghklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "el", "or")]


def made_model(folder: Path) -> tuple[PreTrainedTokenizerBase, int]:
    """Writes a reward model of random weights; its tokenizer, and the parameters that each token is multiplied with."""
    rng = random.Random(0)
    tokenizer = train_tokenizer([_words(rng, 20) for _ in range(400)], VOCABULARY)
    trunk = new_policy(SHAPE, tokenizer).base_model
    save_reward_model(LoadedRewardModel(reward_model_on(trunk), tokenizer, SHAPE.context), folder)
    return tokenizer, sum(p.numel() for name, p in trunk.named_parameters() if "embed" not in name)


def published(model: Path, registry_folder: Path) -> None:
    registry = Registry(registry_folder)
    epoch = registry.take_epoch([MODEL], "bench")
    registry.publish(MODEL.revision(1), model, epoch=epoch)
    registry.move_alias(MODEL, STABLE, 1, epoch=epoch, actor="bench", reason="")


def made_work(tokenizer: PreTrainedTokenizerBase, pairs: int) -> list[Piece]:
    """Pairs whose lengths in tokens are uniform in their range."""
    rng = random.Random(1)
    return [_piece(tokenizer, rng, rng.randint(*TOKENS)) for _ in range(pairs)]


def _piece(tokenizer: PreTrainedTokenizerBase, rng: random.Random, wanted: int) -> Piece:
    while True:
        prompt, completion = _words(rng, 1), ""
        rendered = render_prompt(tokenizer, Prompt.user(prompt).as_chat())
        while len(ids := reward_input(tokenizer, rendered, completion)) < wanted:
            completion += " " + _words(rng, max(1, (wanted - len(ids)) // 5))
        if len(ids) == wanted:
            return Piece(prompt, completion, tuple(ids))


def _words(rng: random.Random, count: int) -> str:
    return " ".join("".join(rng.choices(SYLLABLES, k=rng.randint(1, 3))) for _ in range(count))


def rounds(sides: Mapping[str, Run], work: Sequence[Piece], count: int) -> dict[str, list[float]]:
    """Pairs a second of each side in each round, after one run of each whose scores must agree."""
    scores = {name: run(work)[1] for name, run in sides.items()}
    for name, found in scores.items():
        gap = max(abs(a - b) for a, b in zip(found, scores["attune"], strict=True))
        if not gap <= TOLERANCE:
            raise SystemExit(f"{name} and Attune differ by {gap} in a score")
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(count):
        for name, run in sides.items():
            rates[name].append(len(work) / run(work)[0])
            print(f"round {number + 1}, {name}: {rates[name][-1]:,.1f} pairs a second", file=sys.stderr, flush=True)
    return rates


def peak_flops() -> float:
    """Floating-point operations a second of the best of some large products, on as many threads as a side has."""
    torch.set_num_threads(THREADS)
    a, b = torch.randn(PEAK_SIDE, PEAK_SIDE), torch.randn(PEAK_SIDE, PEAK_SIDE)
    best_s = float("inf")
    for _ in range(20):
        started = time.perf_counter()
        torch.mm(a, b)
        best_s = min(best_s, time.perf_counter() - started)
    return 2 * PEAK_SIDE**3 / best_s


def table(rates: Mapping[str, list[float]], floor: float) -> str:
    lines = [f"{'':12}{'pairs/s':>10}{'min':>9}{'max':>9}{'of the floor':>14}{'Attune over it':>16}"]
    ours = statistics.median(rates["attune"])
    for name, found in rates.items():
        median = statistics.median(found)
        row = f"{name:12}{median:10,.1f}{min(found):9,.1f}{max(found):9,.1f}{median / floor:14.1%}"
        lines.append(row + (f"{ours / median:16.2f}" if name != "attune" else ""))
    return "\n".join([*lines, f"{'floor':12}{floor:10,.1f}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each side is measured, in turn")
    parser.add_argument("--pairs", type=int, default=1024, help="pairs in a round")
    parser.add_argument("--callers", type=int, default=64, help="requests at once")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="attune-bench-") as temporary, ExitStack() as stack:
        folder = Path(temporary)
        tokenizer, parameters = made_model(folder / "model")
        published(folder / "model", folder / "registry")
        work = made_work(tokenizer, options.pairs)
        floor = peak_flops() * len(work) / (2 * parameters * sum(len(piece.ids) for piece in work))
        attune = stack.enter_context(attune_side(folder / "registry", folder / "cache", options.callers))
        padded = stack.enter_context(triton_side(folder / "model", folder, options.callers, options.callers))
        sides = {"attune": attune, **{name: padded(pad_to) for name, pad_to in PADDINGS.items()}}
        rates = rounds(sides, work, options.rounds)
    print(table(rates, floor))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    ratios = {name: round(medians["attune"] / medians[name], 3) for name in PADDINGS}
    print(
        json.dumps({"name": "scoring", "ratios": ratios, "pairs_per_s": {n: round(r, 1) for n, r in medians.items()}})
    )


if __name__ == "__main__":
    main()
