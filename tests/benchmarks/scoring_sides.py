"""The two sides of the benchmark of scoring, and the callers in front of them: closed loops, one pair a request.

Attune is `attune reward` as a process, called with texts by attune.client. Triton is a real server with its dynamic
batcher and the same model, called with tokens by tritonclient: tokenizing, which Attune does in its server, is left out
there. Triton batches requests of one shape only, so each is padded, to a multiple of `pad_to` tokens.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from attune.client import AsyncClient
from attune.reward.triton_repository import SCRIPT, TritonRepository
from processes import free_port, process
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.grpc import aio as tritonclient

sys.path.insert(0, str(Path(__file__).parents[2] / "deploy" / "triton"))
from triton_server import Triton

THREADS = 2
BATCHING_MODEL = Path(__file__).with_name("triton_batching_model.py")
Run = Callable[[Sequence["Piece"]], tuple[float, list[float]]]
"""Scores the work; seconds it took, and the raw scores in order."""


@dataclass(frozen=True)
class Piece:
    """One pair as text, and the tokens that a model reads of it."""

    prompt: str
    completion: str
    ids: tuple[int, ...]


async def closed_loops(work: Sequence[Piece], callers: int, score: Callable[[Piece], Awaitable[float]]) -> list[float]:
    """The scores of all pieces, `callers` of them being asked for at once."""
    found = [0.0] * len(work)
    waiting = iter(range(len(work)))

    async def caller() -> None:
        for i in waiting:
            found[i] = await score(work[i])

    await asyncio.gather(*(caller() for _ in range(callers)))
    return found


@contextmanager
def attune_side(registry: Path, folder: Path, callers: int) -> Iterator[Run]:
    port = free_port()
    flags = [f"registry={registry}", f"cache_folder={folder}", f"app.port={port}", "control.port=0", "metrics_port=0"]
    flags += ["device=cpu", f"threads={THREADS}", "log_level=warning"]
    command = [sys.executable, "-m", "attune.cli.main", "reward", *(w for flag in flags for w in ("--set", flag))]

    async def scored(work: Sequence[Piece]) -> tuple[float, list[float]]:
        async with AsyncClient(app_id="bench", reward_address=f"127.0.0.1:{port}") as client:
            await client.wait_until_serving(60)

            async def score(piece: Piece) -> float:
                return (await client.score([(piece.prompt, piece.completion)])).raw[0]

            return await timed(closed_loops(work, callers, score))

    with process(command, f"127.0.0.1:{port}"):
        yield lambda work: asyncio.run(scored(work))


@contextmanager
def triton_side(model: Path, folder: Path, callers: int, batch: int) -> Iterator[Callable[[int], Run]]:
    """Gives a side for each `pad_to`."""
    repository = folder / "repository"
    _write_model(repository, model, batch)
    with Triton(repository, free_port(), folder / "triton.log") as triton:
        with InferenceServerClient(triton.url) as control:
            control.load_model("reward")

        async def scored(work: Sequence[Piece], pad_to: int) -> tuple[float, list[float]]:
            async with tritonclient.InferenceServerClient(triton.url) as client:

                async def score(piece: Piece) -> float:
                    answer = await client.infer("reward", _tensors(piece, pad_to), client_timeout=60)
                    return float(answer.as_numpy("raw_score")[0, 0])

                return await timed(closed_loops(work, callers, score))

        yield lambda pad_to: lambda work: asyncio.run(scored(work, pad_to))


async def timed(scores: Awaitable[list[float]]) -> tuple[float, list[float]]:
    started = time.perf_counter()
    found = await scores
    return time.perf_counter() - started, found


def _write_model(repository: Path, model: Path, batch: int) -> None:
    """Attune's own export, with the dynamic batcher and a script that makes use of it."""
    TritonRepository(repository, "reward", batch_pairs=batch, dtype="float32", threads=THREADS).add(1, model)
    version = repository / "reward" / "1"
    shutil.copyfile(SCRIPT, version / "reward_script.py")
    shutil.copyfile(BATCHING_MODEL, version / "model.py")
    with (repository / "reward" / "config.pbtxt").open("a") as config:
        config.write("dynamic_batching { }\n")


def _tensors(piece: Piece, pad_to: int) -> list[Any]:
    width = -(-len(piece.ids) // pad_to) * pad_to
    ids = torch.zeros(1, width, dtype=torch.long)
    ids[0, : len(piece.ids)] = torch.tensor(piece.ids)
    mask = (torch.arange(width) < len(piece.ids)).long()[None]
    return [
        InferInput(name, [1, width], "INT64").set_data_from_numpy(tensor.numpy())
        for name, tensor in (("input_ids", ids), ("attention_mask", mask))
    ]
