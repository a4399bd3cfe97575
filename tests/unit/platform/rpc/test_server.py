"""A server of one port: health, reflection, a port of its own, and a stop that drains."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from attune.api.inference.v2 import inference_pb2
from attune.api.reward.v1 import reward_pb2, reward_pb2_grpc
from attune.domain.errors import AddressInUse
from attune.platform.rpc.interceptors import RpcMetrics
from attune.platform.rpc.server import RpcServer
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import CollectorRegistry
from unit.platform.rpc.echo import SERVICE, echo

INFERENCE = "inference.GRPCInferenceService"


async def answer(request, context) -> reward_pb2.ScoreResponse:
    return reward_pb2.ScoreResponse(revision="yes")


async def health(channel: grpc.aio.Channel, service: str) -> str:
    response = await health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(service=service), timeout=5
    )
    return health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_health_is_what_it_was_told(service: str) -> None:
    async with echo(answer) as running:
        assert await health(running.channel, service) == "NOT_SERVING"
        await running.server.set_serving(True)
        assert await health(running.channel, service) == "SERVING"
        await running.server.set_serving(False)
        assert await health(running.channel, service) == "NOT_SERVING"


async def test_health_needs_no_deadline() -> None:
    async with echo(answer) as running:
        response = await health_pb2_grpc.HealthStub(running.channel).Check(health_pb2.HealthCheckRequest())
    assert response.status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_reflection_lists_the_service() -> None:
    async with echo(answer) as running:
        stub = reflection_pb2_grpc.ServerReflectionStub(running.channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        async for response in stub.ServerReflectionInfo(iter([asked])):
            names = {service.name for service in response.list_services_response.service}
            break
    assert {SERVICE, "grpc.health.v1.Health"} <= names


async def test_reflection_describes_services_of_either_pool() -> None:
    server = RpcServer(
        {INFERENCE: lambda server: None},
        host="127.0.0.1",
        port=0,
        metrics=RpcMetrics(CollectorRegistry()),
        described=inference_pb2.DESCRIPTOR.pool,
    )
    await server.start()
    asked = [
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=INFERENCE),
        reflection_pb2.ServerReflectionRequest(file_by_filename=inference_pb2.DESCRIPTOR.name),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="grpc.health.v1.Health"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="nobody.Knows"),
        reflection_pb2.ServerReflectionRequest(all_extension_numbers_of_type="grpc.health.v1.HealthCheckRequest"),
    ]
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        answers = [response async for response in stub.ServerReflectionInfo(iter(asked))]
    await server.stop(0)
    *found, unknown, extensions = answers
    assert all(len(response.file_descriptor_response.file_descriptor_proto) == 1 for response in found)
    assert unknown.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert not extensions.all_extension_numbers_response.extension_number


async def test_a_taken_port_is_an_error() -> None:
    async with echo(answer) as running:
        with pytest.raises(AddressInUse, match=f"cannot listen on {running.server.address}"):
            RpcServer({}, host="127.0.0.1", port=running.server.port, metrics=RpcMetrics(CollectorRegistry()))


async def test_an_option_given_stands_over_the_usual_one() -> None:
    server = RpcServer(
        {},
        host="127.0.0.1",
        port=0,
        metrics=RpcMetrics(CollectorRegistry()),
        options=[("grpc.max_receive_message_length", 100)],
    )
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await check(health_pb2.HealthCheckRequest(service="x" * 200), timeout=5)
    await server.stop(0)
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_old_connection_ends_without_its_calls() -> None:
    peers: list[str] = []
    began, may_end = asyncio.Event(), asyncio.Event()

    async def slow_at_first(request, context) -> reward_pb2.ScoreResponse:
        peers.append(context.peer())
        if len(peers) == 1:
            began.set()
            await may_end.wait()
        return reward_pb2.ScoreResponse(revision="done")

    async with echo(slow_at_first, max_connection_age_s=0.1) as running:
        first = asyncio.create_task(running.score(60.0))
        await began.wait()
        async with asyncio.timeout(30):
            while len(set(peers)) < 2:
                await running.score(20.0)
        may_end.set()
        assert (await first).revision == "done"


async def test_calls_are_still_taken_after_notice_was_given() -> None:
    async with echo(answer) as running:
        await running.server.set_serving(True)
        stopping = asyncio.create_task(running.server.stop(5.0, notice_s=60.0))
        async with asyncio.timeout(10):
            while await health(running.channel, "") != "NOT_SERVING":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (await running.score()).revision == "yes"
        assert not stopping.done()
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)


@pytest.mark.slow
async def test_a_call_that_sends_nothing_for_long_outlives_the_pings_of_its_client() -> None:
    """A client pings every ten seconds, the least that gRPC allows; a server that does not permit it hangs up at the
    fifth ping without data."""

    async def long(request, context) -> reward_pb2.ScoreResponse:
        await asyncio.sleep(56)
        return reward_pb2.ScoreResponse(revision="done")

    pinging = [("grpc.keepalive_time_ms", 10_000), ("grpc.http2.max_pings_without_data", 0)]
    async with (
        echo(long, max_deadline_s=100.0) as running,
        grpc.aio.insecure_channel(running.server.address, options=pinging) as channel,
    ):
        stub = reward_pb2_grpc.RewardServiceStub(channel)
        assert (await stub.Score(reward_pb2.ScoreRequest(), timeout=90)).revision == "done"


async def test_a_stop_lets_running_calls_end() -> None:
    began, may_end = asyncio.Event(), asyncio.Event()

    async def slow(request, context) -> reward_pb2.ScoreResponse:
        began.set()
        await may_end.wait()
        return reward_pb2.ScoreResponse(revision="done")

    async with echo(slow) as running:
        call = asyncio.create_task(running.score())
        await began.wait()
        stopping = asyncio.create_task(running.server.stop(10))
        may_end.set()
        assert (await call).revision == "done"
        await stopping
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await running.score(0.5)
        assert raised.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
