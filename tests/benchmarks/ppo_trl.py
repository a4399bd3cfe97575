"""TRL's side of the benchmark of PPO: its PPOTrainer, run by the interpreter that has TRL.

Every line on standard input asks for one update of the trainer's own loop, which is held at the place where it logs. A
line of JSON answers: seconds and response tokens. Nothing of TRL is changed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl.experimental.ppo import PPOConfig, PPOTrainer

EPISODES, RESPONSE_TOKENS, LONG = 64, 64, 10_000


class _Stepped(PPOTrainer):
    """Waits for a line after every update and tells how long the update took."""

    started = 0.0

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        took = time.perf_counter() - self.started
        print(json.dumps({"seconds": took, "tokens": EPISODES * RESPONSE_TOKENS}), flush=True)
        self.wait()

    def wait(self) -> None:
        print("ready", flush=True)
        if not sys.stdin.readline():
            os._exit(0)  # the loop of train() has no other way out
        self.started = time.perf_counter()


def main(folder: Path, dtype: torch.dtype) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder / "model", padding_side="left")
    policy, reference = (AutoModelForCausalLM.from_pretrained(folder / "model", dtype=dtype) for _ in range(2))
    reward, value = (
        AutoModelForSequenceClassification.from_pretrained(folder / "model", num_labels=1, dtype=dtype)
        for _ in range(2)
    )
    config = PPOConfig(
        output_dir=str(folder / f"trl-{dtype}"),
        per_device_train_batch_size=EPISODES,
        local_rollout_forward_batch_size=EPISODES,
        num_mini_batches=1,
        num_ppo_epochs=1,
        total_episodes=EPISODES * LONG,
        response_length=RESPONSE_TOKENS,
        temperature=1.0,
        learning_rate=1e-6,
        num_sample_generations=0,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    prompts = Dataset.from_dict({"input_ids": [p["ids"] for p in json.loads((folder / "prompts.json").read_text())]})
    trainer = _Stepped(config, tokenizer, policy, reference, reward, prompts, value, eval_dataset=prompts)
    trainer.wait()
    trainer.train()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("dtype", choices=["float32", "bfloat16"])
    arguments = parser.parse_args()
    sys.stdout = os.fdopen(os.dup(1), "w")  # answers alone; what TRL prints goes to standard error
    os.dup2(2, 1)
    torch.set_num_threads(os.cpu_count() or 1)
    main(arguments.folder, getattr(torch, arguments.dtype))
