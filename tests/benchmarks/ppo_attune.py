"""Attune's side of the benchmark of PPO: policy and reward servers, and this process as the trainer.

Every line on standard input asks for one iteration, the trainer's own step without its gate: rollouts and scores over
gRPC, update, revision written, checkpoint, preload and alias. A line of JSON answers: seconds, response tokens, and the
seconds of each part.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from itertools import count
from pathlib import Path

import torch
from attune.cli.supervisor import Endpoints, Supervisor, settings_of
from attune.domain.prompts import Prompt
from attune.platform.config import load_settings
from attune.platform.registry.registry import Registry
from attune.platform.telemetry import new_metrics
from attune.trainer import policy_step
from attune.trainer.config import TrainerSettings
from attune.trainer.gates import GateVerdict
from attune.trainer.metrics import TrainerMetrics
from attune.trainer.opening import find_start, open_workspace
from attune.trainer.prompts import read_prompts
from attune.trainer.servers import GrpcServers
from attune.trainer.workspace import Workspace
from ppo_work import EPISODES, GATE, POLICY, RESPONSE_TOKENS, REWARD
from prometheus_client import CollectorRegistry

START_TIMEOUT_S = 60.0
TRAINER = [
    f"policy={POLICY.model}", f"reward_model={REWARD.model}", f"gate_model={GATE.model}",
    f"rollouts.prompts={EPISODES}", "rollouts.completions=1", f"rollouts.max_tokens={RESPONSE_TOKENS}",
    "ppo.actor_lr=1e-6", "ppo.critic_lr=1e-6", "rollouts.held_out_share=0.05",
]  # fmt: skip


class _Phases(TrainerMetrics):
    """Notes when each phase was entered."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self.entered: list[tuple[str, float]] = []

    def enter(self, phase: str) -> None:
        super().enter(phase)
        self.entered.append((phase, time.perf_counter()))


async def iterate(w: Workspace, step: int) -> None:
    """The trainer's step, promoted without asking the gate."""
    await policy_step.take(w, step)
    w.enter("promotion")
    number = w.progress.facts["pending"]["number"]
    await w.conclude("policies", number, GateVerdict(True), {"policy": number}, pieces=("policy",))
    w.enter("idle")


async def serve(folder: Path, extra: list[str]) -> None:
    system, cores = folder / "system", os.cpu_count() or 1
    endpoints = Endpoints.free()
    settings = settings_of(system, endpoints, cores)
    settings["policy"].append(f"policy={POLICY.model}")
    settings["reward"].append(f"reward_model={REWARD.model}")
    services = Supervisor(system, endpoints, settings, lambda line: print(line, file=sys.stderr))
    chosen = load_settings(TrainerSettings, settings["trainer"] + TRAINER + extra)
    torch.set_num_threads(chosen.threads)
    torch.set_flush_denormal(True)
    servers = GrpcServers(**chosen.addresses.model_dump())
    try:
        services.start(("policy", "reward"))
        await services.wait_until_serving(("policy", "reward"), START_TIMEOUT_S)
        registry, metrics = Registry(chosen.registry), _Phases(new_metrics())
        epoch = registry.take_epoch([POLICY, REWARD], "bench")
        start = find_start(chosen, registry)
        w = open_workspace(chosen, registry, servers, metrics, start, epoch, _prompts(folder))
        for step in count(1):
            print("ready", flush=True)
            if not await asyncio.to_thread(sys.stdin.readline):
                return
            metrics.entered.clear()
            started = time.perf_counter()
            await iterate(w, step)
            took = time.perf_counter() - started
            parts = {
                phase: round(after - at, 3)
                for (phase, at), (_, after) in zip(metrics.entered, metrics.entered[1:], strict=False)
            }
            tokens = round(w.figures["response_tokens"] * EPISODES)
            print(json.dumps({"seconds": took, "tokens": tokens, "parts": parts}), flush=True)
    finally:
        await servers.close()
        await services.stop()


def _prompts(folder: Path) -> list[Prompt]:
    lines = [json.dumps({"prompt": prompt["text"]}) for prompt in json.loads((folder / "prompts.json").read_text())]
    (folder / "prompts.jsonl").write_text("\n".join(lines))
    return read_prompts(folder / "prompts.jsonl")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.folder, arguments.set))
