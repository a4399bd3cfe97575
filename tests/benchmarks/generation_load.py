"""Load for the benchmark of generation, in a process of its own: many streams at once, or one to see its first token.

A closed loop: each of the streams asks for the next piece of work as soon as its last one has ended, until all work is
done. Doors: Attune's PolicyService over gRPC, and the completions of an OpenAI server over HTTP. A stream that ends
before its length is an error, for then the sides would not have done the same work. No torch is loaded here.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import aiohttp
import grpc.aio
import uvloop
from attune.api.policy.v1 import policy_pb2
from attune.api.types.v1 import generations_pb2, prompts_pb2

STREAM = "/attune.api.policy.v1.PolicyService/GenerateStream"
TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Piece:
    """One request: its prompt as text and as tokens, and how many tokens are to be written."""

    prompt: str
    prompt_ids: tuple[int, ...]
    tokens: int
    seed: int


@dataclass(frozen=True)
class Load:
    """What a load process does: `door` is attune or openai, `address` host:port, `model` what the server calls it."""

    door: str
    address: str
    work: tuple[Piece, ...]
    streams: int
    model: str = ""


@dataclass(frozen=True)
class Loaded:
    """Seconds from the first request to the last token, and each stream's seconds to its first token."""

    wall_s: float
    first_token_s: tuple[float, ...]


def loaded(load: Load, before: Callable[[], None] = lambda: None) -> Loaded:
    """Runs a load in a process of its own; `before` is called when it is connected and about to begin."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_run, args=(load, there), daemon=True)
    process.start()
    there.close()
    try:
        here.recv()
        before()
        here.send(None)
        return here.recv()
    except EOFError:
        raise SystemExit("the load process failed; what it said stands above") from None
    finally:
        here.close()
        process.join()


def _run(load: Load, pipe: Connection) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run({"attune": _on_attune, "openai": _on_openai}[load.door](load, pipe))


async def _on_attune(load: Load, pipe: Connection) -> None:
    async with grpc.aio.insecure_channel(load.address) as channel:
        await channel.channel_ready()
        stream = channel.unary_stream(STREAM, response_deserializer=policy_pb2.GenerateStreamResponse.FromString)

        async def write(piece: Piece) -> float:
            started, first = time.monotonic(), 0.0
            tokens = 0
            async for response in stream(_request(piece), timeout=TIMEOUT_S):
                first = first or time.monotonic() - started
                tokens += len(response.delta.token_ids)
            _check(piece, tokens)
            return first

        await _closed_loop(load, pipe, write)


async def _on_openai(load: Load, pipe: Connection) -> None:
    url = f"http://{load.address}/v1/completions"
    limits = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=limits, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def write(piece: Piece) -> float:
            started, first = time.monotonic(), 0.0
            usage: dict[str, int] = {}
            async with session.post(url, json=_openai_request(load.model, piece)) as response:
                response.raise_for_status()
                async for line in response.content:
                    if line.startswith(b"data: {"):
                        first = first or time.monotonic() - started
                        if b'"completion_tokens"' in line:
                            usage = json.loads(line[6:])["usage"]
            _check(piece, usage.get("completion_tokens", 0))
            return first

        await _closed_loop(load, pipe, write)


async def _closed_loop(load: Load, pipe: Connection, write: Callable[[Piece], Awaitable[float]]) -> None:
    left = iter(load.work)
    firsts: list[float] = []

    async def one_stream() -> None:
        for piece in left:
            firsts.append(await write(piece))

    pipe.send(None)
    pipe.recv()
    started = time.monotonic()
    async with asyncio.TaskGroup() as streams:
        for _ in range(load.streams):
            streams.create_task(one_stream())
    pipe.send(Loaded(time.monotonic() - started, tuple(firsts)))


def _request(piece: Piece) -> bytes:
    sampling = generations_pb2.SamplingParameters(max_tokens=piece.tokens, seed=piece.seed)
    asked = policy_pb2.GenerateRequest(app_id="bench", prompt=prompts_pb2.Prompt(text=piece.prompt), sampling=sampling)
    return policy_pb2.GenerateStreamRequest(request=asked).SerializeToString()


def _openai_request(model: str, piece: Piece) -> dict[str, Any]:
    lengths = {"max_tokens": piece.tokens, "min_tokens": piece.tokens, "ignore_eos": True}
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    return {"model": model, "prompt": list(piece.prompt_ids), "temperature": 1.0, "seed": piece.seed} | lengths | stream


def _check(piece: Piece, tokens: int) -> None:
    if tokens != piece.tokens:
        raise RuntimeError(f"a stream of {piece.tokens} tokens ended with {tokens}")


def tokens_of(work: Sequence[Piece]) -> int:
    return sum(piece.tokens for piece in work)
