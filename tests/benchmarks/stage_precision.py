"""Which precision trains the demo's model faster on this machine: float32 or bfloat16 products?

    python tests/benchmarks/stage_precision.py [--threads 2] [--rounds 7]

Both sides take the same pretraining steps in turn; printed are the medians of tokens a second and one line of JSON.
`StageSettings.precision = "auto"` follows what this shows on CPUs with AMX.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time

import torch
from attune.modeling.loading import PolicyShape, new_policy
from attune.modeling.tokenizer import train_tokenizer
from attune.trainer.stages.language_modelling import LanguageModelLearner, MaskedSequence
from attune.trainer.stages.training import StageSettings

SHAPE = PolicyShape(layers=3, width=256, heads=4, mlp_width=640, context=256)
BATCH, LENGTH, STEPS_A_ROUND = 16, 128, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    learners = {precision: _learner(precision) for precision in ("float32", "bfloat16")}
    speeds: dict[str, list[float]] = {precision: [] for precision in learners}
    for round_ in range(arguments.rounds + 1):
        for precision, learner in learners.items():
            start = time.perf_counter()
            tokens = sum(learner.step(round_ * STEPS_A_ROUND + i, 1e-4)[1] for i in range(STEPS_A_ROUND))
            if round_:  # the first warms up
                speeds[precision].append(tokens / (time.perf_counter() - start))
    medians = {precision: statistics.median(found) for precision, found in speeds.items()}
    parameters = sum(p.numel() for p in learners["float32"].model.parameters())
    for precision, tokens_per_s in medians.items():
        print(f"{precision:10} {tokens_per_s:9.0f} tokens/s {6e-9 * parameters * tokens_per_s:7.0f} GFLOP/s")
    ratio = medians["bfloat16"] / medians["float32"]
    print(json.dumps({"name": "stage-precision", "ratios": {"float32": round(ratio, 3)}}))


def _learner(precision: str) -> LanguageModelLearner:
    tokenizer = train_tokenizer(["bytes alone"], 300)
    rng = random.Random(0)
    data = [MaskedSequence(tuple(rng.randrange(5, len(tokenizer)) for _ in range(LENGTH))) for _ in range(64 * BATCH)]
    settings = StageSettings(batch_size=BATCH, precision=precision)  # type: ignore[arg-type]
    return LanguageModelLearner(new_policy(SHAPE, tokenizer), 0, data, [], settings)


if __name__ == "__main__":
    main()
