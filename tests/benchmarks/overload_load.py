"""Load on a policy server from a process of its own: its capacity, calls far beyond it, and cancelled streams.

Requests are bytes that were made beforehand, on one channel, so that the process takes little of the machine. A call is
clocked from before it is sent until its status has come, so what this process is late by counts as the server's.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from attune.api.policy.v1 import policy_pb2
from policies import request

GENERATE = "/attune.api.policy.v1.PolicyService/Generate"
STREAM = "/attune.api.policy.v1.PolicyService/GenerateStream"
ECHO, ECHO_EVERY = "/attune.benchmarks.Echo/Echo", 10
TIMEOUT_S = 60.0
READY_REQUESTS = 2000
SOON_S = 0.02
"""Within this a stream is cancelled that has no token yet: on its way, waiting, or just begun."""
REFUSED, LATE = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED


@dataclass
class Answers:
    """Calls by what became of them: `accepted` in time, `late`, refused after so many seconds each, or else failed."""

    accepted: int = 0
    late: int = 0
    refusals_s: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)

    def add(self, call: Any, took_s: float) -> None:
        """A call that has ended."""
        if (code := call.code()) is grpc.StatusCode.OK:
            self.accepted += 1
        elif code is REFUSED:
            self.refusals_s.append(took_s)
        elif code is LATE:
            self.late += 1
        else:
            self.failed[f"{code.name}: {call.details()}"] += 1


def capacity(address: str, at_once: int, seconds: float, reports: Any) -> None:
    """Calls a second that a server answers with `at_once` in flight, after a second of warming up."""
    reports.put(asyncio.run(_capacity(address, at_once, seconds)))


def flood(address: str, echo: str, calls_per_s: float, deadline_s: float, stop: Any, reports: Any) -> None:
    """Begins calls on time, whatever becomes of earlier ones, until `stop`, and calls the server at `echo` beside them;
    then waits for all and reports Answers, and how long each echo took."""
    ready, answers, echoes_s = _requests(), Answers(), list[float]()
    with grpc.insecure_channel(address) as channel, grpc.insecure_channel(echo) as echo_channel:
        for one in (channel, echo_channel):
            grpc.channel_ready_future(one).result(TIMEOUT_S)
        generate, send_back = channel.unary_unary(GENERATE), echo_channel.unary_unary(ECHO)
        gc.disable()  # nothing here makes cycles, and a collection would count as the server's time
        running: set[grpc.Future] = set()
        number, due = 0, time.monotonic()
        while not stop.value:
            time.sleep(max(0.0, due - time.monotonic()))
            _begin(generate, ready[number % len(ready)], deadline_s, running, answers.add)
            if number % ECHO_EVERY == 0:
                _begin(send_back, ready[0], TIMEOUT_S, running, lambda _, took_s: echoes_s.append(took_s))
            number, due = number + 1, due + 1 / calls_per_s
        for call in tuple(running):
            call.exception()
    reports.put((answers, echoes_s))


def cancels(address: str, at_once: int, count: int, done: Any, reports: Any) -> None:
    """Cancels `count` streams, every other one as soon as it has begun to write and the rest within SOON_S; counts in
    `done`, and reports the statuses with which they ended."""
    reports.put(asyncio.run(_cancels(address, at_once, count, done)))


async def _capacity(address: str, at_once: int, seconds: float) -> float:
    ready = _requests()
    async with grpc.aio.insecure_channel(address) as channel:
        method = channel.unary_unary(GENERATE)
        ended: list[float] = []
        until = time.monotonic() + 1.0 + seconds

        async def keep_one(number: int) -> None:
            while time.monotonic() < until:
                await method(ready[number % len(ready)], timeout=TIMEOUT_S)
                ended.append(time.monotonic())
                number += at_once

        await asyncio.gather(*(keep_one(number) for number in range(at_once)))
    return sum(until - seconds <= at <= until for at in ended) / seconds


def _begin(
    method: Any, asked: bytes, timeout_s: float, running: set[grpc.Future], tell: Callable[[grpc.Future, float], None]
) -> None:
    """Sends without waiting; `tell` hears of the end, and how many seconds it took, on the thread that reads."""
    started = time.monotonic()
    call = method.future(asked, timeout=timeout_s)

    def ended(call: grpc.Future) -> None:
        tell(call, time.monotonic() - started)
        running.discard(call)

    running.add(call)
    call.add_done_callback(ended)


async def _cancels(address: str, at_once: int, count: int, done: Any) -> Counter[str]:
    ready, statuses = _requests(128, stream=True), Counter[str]()
    rng, numbers = random.Random(1), iter(range(count))
    async with grpc.aio.insecure_channel(address) as channel:
        method = channel.unary_stream(STREAM)

        async def keep_one() -> None:
            for number in numbers:
                after_s = rng.uniform(0.0, SOON_S) if number % 2 else None
                statuses[await _cancel(method(ready[number % len(ready)], timeout=TIMEOUT_S), after_s)] += 1
                done.value += 1

        await asyncio.gather(*(keep_one() for _ in range(at_once)))
    return statuses


async def _cancel(stream: Any, after_s: float | None) -> str:
    """Cancels after so many seconds, or else once the first token is there; the status that it ends with."""
    if after_s is None:
        await stream.read()
    else:
        await asyncio.sleep(after_s)
    stream.cancel()
    return (await stream.code()).name


def _requests(tokens: int | None = None, stream: bool = False) -> list[bytes]:
    rng = random.Random(0)
    made = [request(rng, tokens) for _ in range(READY_REQUESTS)]
    if stream:
        return [policy_pb2.GenerateStreamRequest(request=one).SerializeToString() for one in made]
    return [one.SerializeToString() for one in made]
