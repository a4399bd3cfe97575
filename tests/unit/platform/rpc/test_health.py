"""What probes hear: that a process lives, and whether the server it is there for serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from attune.api.reward.v1 import reward_pb2
from attune.domain.errors import AddressInUse
from attune.platform.rpc.health import Probes, probed
from grpc_health.v1 import health_pb2, health_pb2_grpc
from unit.platform.rpc.echo import echo


@pytest.fixture
async def probes() -> AsyncIterator[Probes]:
    async with probed("127.0.0.1", 0) as running:
        yield running


async def told(probes: Probes) -> dict[str, str]:
    """By name, what the port says now."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{probes.port}") as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        return {
            name: _name(await check(health_pb2.HealthCheckRequest(service=name), timeout=5))
            for name in ("liveness", "readiness", "")
        }


def _name(answer: health_pb2.HealthCheckResponse) -> str:
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


async def answer(request, context) -> reward_pb2.ScoreResponse:
    return reward_pb2.ScoreResponse()


async def test_a_process_lives_before_it_is_ready(probes: Probes) -> None:
    assert await told(probes) == {"liveness": "SERVING", "readiness": "NOT_SERVING", "": "NOT_SERVING"}


async def test_it_is_ready_while_its_server_serves(probes: Probes) -> None:
    async with echo(answer, probes=probes) as running:
        assert (await told(probes))["readiness"] == "NOT_SERVING"
        await running.server.set_serving(True)
        assert (await told(probes))["readiness"] == "SERVING"
        await running.server.set_serving(False)
        assert (await told(probes))["readiness"] == "NOT_SERVING"


async def test_a_server_that_drains_lives_and_is_not_ready(probes: Probes) -> None:
    async with echo(answer, probes=probes) as running:
        await running.server.set_serving(True)
        stopping = asyncio.create_task(running.server.stop(5.0, notice_s=60.0))
        async with asyncio.timeout(10):
            while (await told(probes))["readiness"] != "NOT_SERVING":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (await told(probes))["liveness"] == "SERVING"
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)


async def test_nothing_else_is_told_there(probes: Probes) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{probes.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary("/attune.api.reward.v1.RewardService/Score")(b"", timeout=5)
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_taken_port_is_an_error(probes: Probes) -> None:
    with pytest.raises(AddressInUse, match="cannot answer probes"):
        async with probed("127.0.0.1", probes.port):
            pass


async def test_without_a_port_nobody_is_told() -> None:
    async with probed("127.0.0.1", None) as silent:
        await silent.set_ready(True)
        assert silent.port == 0
