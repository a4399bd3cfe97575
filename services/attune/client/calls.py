"""Calls with deadline and retries over one channel, blocking and asyncio.

A call holds a function that makes the request, not the request: what must differ between attempts (a generation id
that nobody chose) is drawn anew for each. A stream is tried again only before its first message.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from attune.client.access import OPEN, Access, Bearer
from attune.client.channel import RenewedChannel, open_async_channel, open_channel
from attune.client.errors import error_of_call
from attune.client.retries import NO_RETRY, Attempts, RetryPolicy
from attune.client.tracing import trace_metadata
from attune.domain.errors import AttuneError, ServerUnavailable

R = TypeVar("R")

HEALTH_POLL_S = 0.1
HEALTH_CHECK_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Call(Generic[R]):
    """One call to make: the method on a channel, the request of an attempt, how to read a response, and the time for
    all attempts. `may_retry` is false where doing it twice is not the same as once."""

    method: Callable[[Any], Any]
    make_request: Callable[[], Any]
    read: Callable[[Any], R]
    timeout_s: float
    may_retry: bool = True

    def attempts(self, policy: RetryPolicy) -> Attempts:
        return Attempts(policy if self.may_retry else NO_RETRY, self.timeout_s)


class Connection:
    """One channel, for blocking callers. Any thread may use it."""

    def __init__(self, address: str, retry: RetryPolicy | None = None, access: Access | None = None) -> None:
        self.address = address
        self._channel = RenewedChannel(address, access or OPEN, open_channel)
        self._bearer = Bearer(access or OPEN)
        self._retry = retry or RetryPolicy()

    @property
    def channel(self) -> grpc.Channel:
        """For the next call."""
        return self._channel.current()

    def call(self, call: Call[R]) -> R:
        """The response of a unary method. Raises what the server says, or ServerUnavailable, DeadlineExceeded."""
        attempts = call.attempts(self._retry)
        while True:
            try:
                return call.read(self._begin(call, attempts.remaining_s))
            except grpc.RpcError as failed:
                time.sleep(_pause_or_raise(self.address, attempts, failed))

    def stream(self, call: Call[R]) -> Generator[R, None, None]:
        """The responses of a server stream; leaving the iteration cancels the call."""
        attempts = call.attempts(self._retry)
        while True:
            running = self._begin(call, attempts.remaining_s)
            begun = False
            try:
                for response in running:
                    begun = True
                    yield call.read(response)
                return
            except grpc.RpcError as failed:
                pause_s = _pause_or_raise(self.address, attempts, failed, begun)
            finally:
                running.cancel()
            time.sleep(pause_s)

    def wait_until_serving(self, timeout_s: float) -> None:
        """Returns when the server says SERVING. ServerUnavailable, with what it said last, if that takes too long."""
        check = health_pb2_grpc.HealthStub(self.channel).Check
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                said = _health_text(check(health_pb2.HealthCheckRequest(), timeout=HEALTH_CHECK_TIMEOUT_S))
            except grpc.RpcError as failed:
                said = str(error_of_call(failed))
            if said == "SERVING":
                return
            _raise_if_late(self.address, deadline, timeout_s, said)
            time.sleep(HEALTH_POLL_S)

    def close(self) -> None:
        for channel in self._channel.kept:
            channel.close()

    def _begin(self, call: Call[Any], timeout_s: float) -> Any:
        method = call.method(self.channel)
        metadata = self._bearer.metadata() + trace_metadata()
        return method(call.make_request(), timeout=timeout_s, metadata=metadata)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncConnection:
    """One channel, for asyncio. Made and used inside one running loop."""

    def __init__(self, address: str, retry: RetryPolicy | None = None, access: Access | None = None) -> None:
        self.address = address
        self._channel = RenewedChannel(address, access or OPEN, open_async_channel)
        self._bearer = Bearer(access or OPEN)
        self._retry = retry or RetryPolicy()

    @property
    def channel(self) -> grpc.aio.Channel:
        """For the next call."""
        return self._channel.current()

    async def call(self, call: Call[R]) -> R:
        """As Connection.call."""
        attempts = call.attempts(self._retry)
        while True:
            try:
                return call.read(await self._begin(call, attempts.remaining_s))
            except grpc.aio.AioRpcError as failed:
                pause_s = _pause_or_raise(self.address, attempts, failed)
            await asyncio.sleep(pause_s)

    async def stream(self, call: Call[R]) -> AsyncGenerator[R, None]:
        """As Connection.stream; close the generator (`aclosing`) to cancel early."""
        attempts = call.attempts(self._retry)
        while True:
            running = self._begin(call, attempts.remaining_s)
            begun = False
            try:
                async for response in running:
                    begun = True
                    yield call.read(response)
                return
            except grpc.aio.AioRpcError as failed:
                pause_s = _pause_or_raise(self.address, attempts, failed, begun)
            finally:
                running.cancel()
            await asyncio.sleep(pause_s)

    async def exchange(self, call: Call[R]) -> AsyncGenerator[R, None]:
        """The responses of a stream in both directions; never tried again, for its requests are used up."""
        running = self._begin(call, call.timeout_s)
        try:
            async for response in running:
                yield call.read(response)
        except grpc.aio.AioRpcError as failed:
            raise error_of_call(failed, self.address) from failed
        finally:
            running.cancel()

    async def wait_until_serving(self, timeout_s: float) -> None:
        """As Connection.wait_until_serving."""
        check = health_pb2_grpc.HealthStub(self.channel).Check
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                said = _health_text(await check(health_pb2.HealthCheckRequest(), timeout=HEALTH_CHECK_TIMEOUT_S))
            except grpc.aio.AioRpcError as failed:
                said = str(error_of_call(failed))
            if said == "SERVING":
                return
            _raise_if_late(self.address, deadline, timeout_s, said)
            await asyncio.sleep(HEALTH_POLL_S)

    async def close(self) -> None:
        for channel in self._channel.kept:
            await channel.close()

    def _begin(self, call: Call[Any], timeout_s: float) -> Any:
        method = call.method(self.channel)
        metadata = self._bearer.metadata() + trace_metadata()
        return method(call.make_request(), timeout=timeout_s, metadata=metadata)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _pause_or_raise(address: str, attempts: Attempts, failed: Any, begun: bool = False) -> float:
    """Seconds to wait before the next attempt, or the error raised if there is none."""
    error: AttuneError = error_of_call(failed, address)
    pause_s = None if begun else attempts.pause_after(error)
    if pause_s is None:
        raise error from failed
    return pause_s


def _health_text(response: health_pb2.HealthCheckResponse) -> str:
    return health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)


def _raise_if_late(address: str, deadline: float, timeout_s: float, said: str) -> None:
    if time.monotonic() >= deadline:
        raise ServerUnavailable(
            f"{address} is not serving after {timeout_s:g} s: {said}", metadata={"address": address}
        )
