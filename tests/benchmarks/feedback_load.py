"""Load on ingest from processes of their own: closed loops that keep calls in flight, or calls at a fixed pace.

Requests are made of ready bytes, so that a sender costs less than the server it drives. Every acknowledgement is
checked. A refusal ends a closed loop, for a rate of refusals would say nothing; at a fixed pace it is counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc.aio
from attune.api.feedback.v1 import feedback_pb2
from feedback_wire import Events

SERVICE = "/attune.api.feedback.v1.FeedbackService"
ECHO = "/attune.benchmarks.Echo/Echo"
TIMEOUT_S = 30.0
STREAM_S = 600.0
IN_A_STREAM = 1024
"""Events that a stream may be ahead of its acknowledgements."""


@dataclass(frozen=True)
class Load:
    """What one process sends. `door` is echo, single, batch or stream; `calls_per_s` 0 is a closed loop."""

    door: str
    address: str
    events_per_call: int = 1
    in_flight: int = 32
    calls_per_s: float = 0.0
    event_bytes: int = 512


class Refused(Exception):
    """The server did not take all events of a call."""


def run(load: Load, acknowledged: Any, stop: Any, reports: Any) -> None:
    """The main of a load process: counts in `acknowledged`, ends at `stop`, then reports (time of the answer by the
    monotonic clock, seconds it took) of every call, and how many calls were refused."""
    sender = _Sender(load, acknowledged, stop)
    asyncio.run(sender.run())
    reports.put((sender.latencies, sender.refused))


class _Sender:
    def __init__(self, load: Load, acknowledged: Any, stop: Any) -> None:
        self._load, self._acknowledged, self._stop = load, acknowledged, stop
        self._events = Events(load.event_bytes)
        self.latencies: list[tuple[float, float]] = []
        self.refused = 0

    async def run(self) -> None:
        async with grpc.aio.insecure_channel(self._load.address) as channel:
            await channel.channel_ready()
            if self._load.door == "stream":
                method = channel.stream_stream(f"{SERVICE}/StreamFeedback")
                await self._gathered(lambda: self._stream(method))
            elif self._load.calls_per_s:
                await self._paced(self._call_of(channel))
            else:
                call = self._call_of(channel)
                await self._gathered(lambda: self._closed(call))

    async def _gathered(self, make: Callable[[], Awaitable[None]]) -> None:
        await asyncio.gather(*(make() for _ in range(self._load.in_flight)))

    def _call_of(self, channel: grpc.aio.Channel) -> Callable[[], Awaitable[None]]:
        """One call: sends, waits, checks, counts."""
        name, check = {
            "echo": (ECHO, _echoed),
            "single": (f"{SERVICE}/SubmitFeedback", _submitted),
            "batch": (f"{SERVICE}/IngestFeedback", _ingested),
        }[self._load.door]
        method, count = channel.unary_unary(name), self._load.events_per_call

        async def call() -> None:
            request, started = self._events.take(count), time.monotonic()
            try:
                check(await method(request, timeout=TIMEOUT_S), count)
            except (Refused, grpc.aio.AioRpcError):
                if not self._load.calls_per_s:
                    raise
                self.refused += 1
                return
            self._answered(started)
            self._acknowledged.value += count

        return call

    def _answered(self, started: float) -> None:
        now = time.monotonic()
        self.latencies.append((now, now - started))

    async def _closed(self, call: Callable[[], Awaitable[None]]) -> None:
        while not self._stop.value:
            await call()

    async def _paced(self, call: Callable[[], Awaitable[None]]) -> None:
        """Begins calls on time whether or not earlier ones came back."""
        running: set[asyncio.Task[None]] = set()
        due = time.monotonic()
        while not self._stop.value:
            due += 1 / self._load.calls_per_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.ensure_future(call())
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)

    async def _stream(self, method: Any) -> None:
        """One stream, ahead of its acknowledgements by a bounded number of messages."""
        count = self._load.events_per_call
        room = asyncio.Semaphore(max(1, IN_A_STREAM // count))
        sent: list[float] = []

        async def messages() -> AsyncIterator[bytes]:
            due, pace = time.monotonic(), self._load.calls_per_s / self._load.in_flight
            while not self._stop.value:
                await room.acquire()
                if pace:
                    due += 1 / pace
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                sent.append(time.monotonic())
                yield self._events.take_for_stream(count)

        answered = 0
        async for response in method(messages(), timeout=STREAM_S):
            new = _streamed(response)
            self._acknowledged.value += new
            for done in range(answered // count, (answered + new) // count):
                room.release()
                self._answered(sent[done])
            answered += new


def _echoed(response: bytes, count: int) -> None:
    assert response


def _submitted(response: bytes, count: int) -> None:
    assert feedback_pb2.SubmitFeedbackResponse.FromString(response).receipt.event_id


def _ingested(response: bytes, count: int) -> None:
    results = feedback_pb2.IngestFeedbackResponse.FromString(response).results
    refused = [result.status for result in results if result.status.code]
    if refused or len(results) != count:
        raise Refused(f"{len(refused)} of {count} events were refused, the first with {refused[:1]}")


def _streamed(response: bytes) -> int:
    """Events acknowledged by one message of a stream."""
    results = feedback_pb2.StreamFeedbackResponse.FromString(response).results
    if refused := [result.status for result in results if result.status.code]:
        raise Refused(f"events of a stream were refused, the first with {refused[0]}")
    return len(results)
