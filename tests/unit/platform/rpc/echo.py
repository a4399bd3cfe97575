"""A RewardService whose Score does what a test wants, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
from attune.api.reward.v1 import reward_pb2, reward_pb2_grpc
from attune.platform.rpc.interceptors import RpcMetrics
from attune.platform.rpc.server import RpcServer
from prometheus_client import CollectorRegistry

SERVICE = "attune.api.reward.v1.RewardService"
Behaviour = Callable[[reward_pb2.ScoreRequest, grpc.aio.ServicerContext], Awaitable[reward_pb2.ScoreResponse]]


class Servicer(reward_pb2_grpc.RewardServiceServicer):
    def __init__(self, behaviour: Behaviour) -> None:
        self.Score = behaviour


@dataclass
class Echo:
    server: RpcServer
    channel: grpc.aio.Channel
    measured: CollectorRegistry

    async def score(self, timeout_s: float | None = 5.0) -> reward_pb2.ScoreResponse:
        return await reward_pb2_grpc.RewardServiceStub(self.channel).Score(reward_pb2.ScoreRequest(), timeout=timeout_s)

    def sample(self, name: str, **labels: str) -> float:
        return self.measured.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def echo(behaviour: Behaviour, max_deadline_s: float = 60.0) -> AsyncIterator[Echo]:
    measured = CollectorRegistry()
    server = RpcServer(
        {
            SERVICE: lambda grpc_server: reward_pb2_grpc.add_RewardServiceServicer_to_server(
                Servicer(behaviour), grpc_server
            )
        },
        host="127.0.0.1",
        port=0,
        metrics=RpcMetrics(measured),
        max_deadline_s=max_deadline_s,
    )
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        try:
            yield Echo(server, channel, measured)
        finally:
            await server.stop(0)
