"""Live streams of a policy server from a process of its own: each that ends is replaced by another one.

The process only reads messages and clocks them; it parses none, so that it takes little of the machine it measures.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from attune.api.policy.v1 import policy_pb2
from policies import request

METHOD = "/attune.api.policy.v1.PolicyService/GenerateStream"
TIMEOUT_S = 60.0


@dataclass
class Streamed:
    """What the streams gave: of each whole one the last message, with the whole generation, and the longest pause
    between two of its messages in seconds; of each other one why it ended."""

    finals: list[bytes] = field(default_factory=list)
    longest_gaps_s: list[float] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)


def run(address: str, streams: int, ended: Any, stop: Any, reports: Any) -> None:
    """The main of the process: counts streams that ended in `ended`, begins no more after `stop`, then reports."""
    reports.put(asyncio.run(_run(address, streams, ended, stop)))


async def _run(address: str, streams: int, ended: Any, stop: Any) -> Streamed:
    found = Streamed()
    rng = random.Random(0)
    async with grpc.aio.insecure_channel(address) as channel:
        await channel.channel_ready()
        gc.freeze()  # what was made so far is not looked through again while messages are clocked
        method = channel.unary_stream(METHOD)

        async def keep_one() -> None:
            while not stop.value:
                await _stream(method, _request(rng), found)
                ended.value += 1

        await asyncio.gather(*(keep_one() for _ in range(streams)))
    return found


def _request(rng: random.Random) -> bytes:
    return policy_pb2.GenerateStreamRequest(request=request(rng)).SerializeToString()


async def _stream(method: Any, asked: bytes, found: Streamed) -> None:
    last, heard, longest_s = b"", 0.0, 0.0
    try:
        async for message in method(asked, timeout=TIMEOUT_S):
            now = time.monotonic()
            longest_s, heard, last = max(longest_s, now - (heard or now)), now, message
    except grpc.aio.AioRpcError as error:
        found.aborted.append(f"{error.code().name}: {error.details()}")
        return
    found.finals.append(last)
    found.longest_gaps_s.append(longest_s)
