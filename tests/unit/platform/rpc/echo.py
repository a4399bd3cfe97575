"""A RewardService whose Score, and a PolicyService whose GenerateStream, do what a test wants, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from attune.api.policy.v1 import policy_pb2, policy_pb2_grpc
from attune.api.reward.v1 import reward_pb2, reward_pb2_grpc
from attune.platform.rpc.interceptors import RpcMetrics
from attune.platform.rpc.server import Register, RpcServer
from prometheus_client import CollectorRegistry

SERVICE = "attune.api.reward.v1.RewardService"
STREAM_SERVICE = "attune.api.policy.v1.PolicyService"
Behaviour = Callable[[reward_pb2.ScoreRequest, grpc.aio.ServicerContext], Awaitable[reward_pb2.ScoreResponse]]

StreamBehaviour = Callable[
    [policy_pb2.GenerateStreamRequest, grpc.aio.ServicerContext], AsyncIterator[policy_pb2.GenerateStreamResponse]
]


class StreamServicer(policy_pb2_grpc.PolicyServiceServicer):
    def __init__(self, behaviour: StreamBehaviour) -> None:
        self.GenerateStream = behaviour


class Servicer(reward_pb2_grpc.RewardServiceServicer):
    def __init__(self, behaviour: Behaviour) -> None:
        self.Score = behaviour


@dataclass
class Echo:
    server: RpcServer
    channel: grpc.aio.Channel
    measured: CollectorRegistry

    async def score(self, timeout_s: float | None = 5.0, bearer: str = "") -> reward_pb2.ScoreResponse:
        stub = reward_pb2_grpc.RewardServiceStub(self.channel)
        return await stub.Score(reward_pb2.ScoreRequest(), timeout=timeout_s, metadata=_metadata(bearer))

    def stream(self, timeout_s: float | None = 5.0, bearer: str = "") -> grpc.aio.UnaryStreamCall:
        stub = policy_pb2_grpc.PolicyServiceStub(self.channel)
        return stub.GenerateStream(policy_pb2.GenerateStreamRequest(), timeout=timeout_s, metadata=_metadata(bearer))

    def sample(self, name: str, **labels: str) -> float:
        return self.measured.get_sample_value(name, labels) or 0.0


def _metadata(bearer: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {bearer}"),) if bearer else ()


@asynccontextmanager
async def echo(
    behaviour: Behaviour, stream: StreamBehaviour | None = None, max_deadline_s: float = 60.0, **how: Any
) -> AsyncIterator[Echo]:
    """`how` are more arguments of the server; its channel is in the clear."""
    measured = CollectorRegistry()
    services: dict[str, Register] = {
        SERVICE: lambda server: reward_pb2_grpc.add_RewardServiceServicer_to_server(Servicer(behaviour), server)
    }
    if stream is not None:
        streaming = StreamServicer(stream)
        services[STREAM_SERVICE] = lambda server: policy_pb2_grpc.add_PolicyServiceServicer_to_server(streaming, server)
    server = RpcServer(
        services,
        host="127.0.0.1",
        port=0,
        metrics=RpcMetrics(measured),
        max_deadline_s=max_deadline_s,
        **how,
    )
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        try:
            yield Echo(server, channel, measured)
        finally:
            await server.stop(0)
