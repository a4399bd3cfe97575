"""The sides of the benchmark of generation: each does the same work when asked, in processes of its own.

Attune is its policy process. vLLM is its own OpenAI server, in the environment that deploy/vllm/installation.py makes.
transformers is `generate` in batches of 64, in the order of the work, each as long as its longest row; the rows that
are done earlier are not counted as work, nor what is written in them.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from attune.domain.generations import Purpose, Sampling
from attune.modeling.batching import pad
from attune.modeling.loading import load_policy
from attune.modeling.revisions import Held
from attune.policy.engine import ENGINE_THREAD, Engine
from attune.policy.jobs import EngineLimits, Job
from attune.policy.metrics import PolicyMetrics
from generation_load import Load, Loaded, Piece, loaded
from generation_work import MODEL
from processes import TICK_S, free_port, process
from prometheus_client import CollectorRegistry

BATCH = 64
VLLM_START_S = 300.0
VLLM_ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}


@dataclass
class ServedSide:
    """A server, and the load on it; with Attune's also the CPU seconds of its threads, by their name."""

    door: str
    address: str
    streams: int
    model: str = ""
    pid: int = 0
    cpu_s: dict[str, float] = field(default_factory=dict)

    def run(self, work: Sequence[Piece]) -> Loaded:
        before: dict[str, float] = {}
        load = Load(self.door, self.address, tuple(work), self.streams, self.model)
        found = loaded(load, lambda: before.update(self._cpu_by_thread()))
        after = self._cpu_by_thread()
        self.cpu_s = {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}
        return found

    @property
    def service_share(self) -> float:
        """CPU time of all other threads of the policy process over that of its engine, in the last run."""
        engine = self.cpu_s[ENGINE_THREAD]
        return (sum(self.cpu_s.values()) - engine) / engine

    def _cpu_by_thread(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for task in Path(f"/proc/{self.pid}/task").iterdir() if self.pid else ():
            name, _, rest = (task / "stat").read_text().partition("(")[2].rpartition(")")
            fields = rest.split()
            found[name] = found.get(name, 0.0) + (int(fields[11]) + int(fields[12])) * TICK_S
        return found


class WorkerSide:
    """A process with a model of its own, told over a pipe what to do."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def run(self, work: Sequence[Piece]) -> Loaded:
        self._pipe.send(tuple(work))
        try:
            return self._pipe.recv()
        except EOFError:
            raise SystemExit("a side failed; what it said stands above") from None


@contextmanager
def attune_side(folder: Path, streams: int, settings: Sequence[str]) -> Iterator[ServedSide]:
    """`attune policy` on the registry in `folder`."""
    address = f"127.0.0.1:{free_port()}"
    own = [f"registry={folder / 'registry'}", f"events_folder={folder / 'events'}", f"cache_folder={folder / 'cache'}"]
    own += [f"app.port={address.rpartition(':')[2]}", "control.port=0", "metrics_port=0", "log_level=warning"]
    flags = [part for setting in [*own, *settings] for part in ("--set", setting)]
    with process([sys.executable, "-m", "attune.cli.main", "policy", *flags], address) as pid:
        yield ServedSide("attune", address, streams, pid=pid)


@contextmanager
def vllm_side(python: Path, model: Path, streams: int) -> Iterator[ServedSide]:
    """vLLM's OpenAI server; it gathers as many tokens a message as Attune does at this load, so that both stream as
    coarsely."""
    address = f"127.0.0.1:{free_port()}"
    flags = ["--model", str(model), "--host", "127.0.0.1", "--port", address.rpartition(":")[2]]
    flags += ["--dtype", "float32", "--enforce-eager", "--max-num-seqs", str(streams), "--max-model-len", "256"]
    flags += ["--stream-interval", "8", "--disable-uvicorn-access-log", "--uvicorn-log-level", "warning"]
    os.environ |= VLLM_ENVIRONMENT
    # Its command looks for a distribution named vllm, which the one for CPUs is not; the module does not.
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server", *flags]
    with process(command, address, start_s=VLLM_START_S):
        yield ServedSide("openai", address, streams, model=str(model))


@contextmanager
def worker_side(main: Any, model: Path) -> Iterator[WorkerSide]:
    """`main(pipe, model)` in a process of its own: `transformers_worker` or `engine_worker`."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    child = spawn.Process(target=main, args=(there, model), daemon=True)
    child.start()
    there.close()
    yield WorkerSide(here)
    here.close()
    child.join()


def transformers_worker(pipe: Connection, model: Path) -> None:
    """Static batches."""
    policy = load_policy(model)
    for work in _told(pipe):
        started = time.monotonic()
        for at in range(0, len(work), BATCH):
            batch = work[at : at + BATCH]
            longest = max(piece.tokens for piece in batch)
            padded = pad([piece.prompt_ids for piece in batch], int(policy.tokenizer.pad_token_id), side="left")
            torch.manual_seed(at)
            written = policy.model.generate(
                input_ids=padded.input_ids,
                attention_mask=padded.attention_mask,
                do_sample=True,
                top_k=0,
                max_new_tokens=longest,
                min_new_tokens=longest,
            )
            assert written.shape[1] == padded.input_ids.shape[1] + longest
        pipe.send(Loaded(time.monotonic() - started, ()))


def engine_worker(pipe: Connection, model: Path) -> None:
    """Attune's engine called in-process, one stream: its time to the first token is what the door adds to."""
    torch.set_num_threads(1)
    held = Held(str(MODEL.revision(1)), load_policy(model))
    asyncio.run(_first_tokens(pipe, held))


async def _first_tokens(pipe: Connection, held: Held) -> None:
    engine = Engine(EngineLimits(), PolicyMetrics(CollectorRegistry()))
    decoding = asyncio.create_task(engine.run())
    for work in _told(pipe):
        firsts = []
        began = time.monotonic()
        for piece in work:
            sampling = Sampling(max_tokens=piece.tokens, seed=piece.seed)
            started = time.monotonic()
            async with aclosing(
                engine.generate(Job(held, piece.prompt_ids, sampling, Purpose.USER, is_streaming=True))
            ) as events:
                await anext(events)
                firsts.append(time.monotonic() - started)
                async for _ in events:
                    pass
        pipe.send(Loaded(time.monotonic() - began, tuple(firsts)))
    decoding.cancel()
    await asyncio.gather(decoding, return_exceptions=True)


def _told(pipe: Connection) -> Iterator[tuple[Piece, ...]]:
    while True:
        try:
            yield pipe.recv()
        except EOFError:
            return
