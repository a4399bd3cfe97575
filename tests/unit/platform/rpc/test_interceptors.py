"""The interceptor: deadlines, errors with their details, nothing leaked, everything counted."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import grpc
import pytest
from attune.api.inference.v2 import inference_pb2, inference_pb2_grpc
from attune.api.policy.v1 import policy_pb2
from attune.api.reward.v1 import reward_pb2, reward_pb2_grpc
from attune.client.errors import error_of_call
from attune.domain.access import ANYBODY, Scope
from attune.domain.errors import AttuneError, InvalidInput, QueueFull
from attune.platform import tracing
from attune.platform.access.keys import KeyStore, new_key, write_keys
from attune.platform.access.settings import Access
from attune.platform.deadline import remaining_s
from attune.platform.rpc.interceptors import RpcMetrics, caller
from attune.platform.rpc.server import RpcServer
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import CollectorRegistry
from support.eventually import eventually
from support.tracing import recorded, trace_of, traceparent_of
from unit.platform.rpc.echo import SERVICE, STREAM_SERVICE, Echo, StreamBehaviour, echo

METHOD = f"/{SERVICE}/Score"
STREAM_METHOD = f"/{STREAM_SERVICE}/GenerateStream"


async def answer(request, context) -> reward_pb2.ScoreResponse:
    return reward_pb2.ScoreResponse(revision=f"{remaining_s(1e9):.3f}")


async def refused(behaviour, timeout_s: float | None = 5.0, **how) -> tuple[grpc.aio.AioRpcError, AttuneError]:
    async with echo(behaviour, **how) as running:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await running.score(timeout_s)
        status = raised.value.code().name
        assert running.sample("attune_rpc_duration_seconds_count", method=METHOD, status=status) == 1
        assert running.sample("attune_rpc_started_total", method=METHOD) == 1
    return raised.value, error_of_call(raised.value)


async def test_a_call_is_served_and_counted() -> None:
    async with echo(answer) as running:
        await running.score()
        assert running.sample("attune_rpc_duration_seconds_count", method=METHOD, status="OK") == 1


async def test_a_deadline_is_required() -> None:
    call, error = await refused(answer, timeout_s=None)
    assert (call.code(), error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "DEADLINE_REQUIRED")


async def test_a_client_of_the_open_inference_protocol_may_leave_it_to_the_server() -> None:
    class Live(inference_pb2_grpc.GRPCInferenceServiceServicer):
        async def ServerLive(self, request, context) -> inference_pb2.ServerLiveResponse:
            return inference_pb2.ServerLiveResponse(live=remaining_s(1e9) <= 20.0)

    def register(server: grpc.aio.Server) -> None:
        inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Live(), server)

    metrics = RpcMetrics(CollectorRegistry())
    server = RpcServer({"live": register}, host="127.0.0.1", port=0, metrics=metrics, max_deadline_s=20.0)
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert (await stub.ServerLive(inference_pb2.ServerLiveRequest())).live
    await server.stop(0)


async def test_the_time_left_is_known_to_the_servicer_and_cut_to_the_longest_allowed() -> None:
    async with echo(answer, max_deadline_s=20.0) as running:
        assert 3.0 < float((await running.score(5.0)).revision) <= 5.1  # gRPC rounds up
        assert 15.0 < float((await running.score(500.0)).revision) <= 20.1
    assert remaining_s(7.0) == 7.0


async def test_a_call_beyond_the_longest_deadline_ends() -> None:
    async def never(request, context):
        await asyncio.Event().wait()

    call, error = await refused(never, timeout_s=30.0, max_deadline_s=0.05)
    assert (call.code(), error.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")


async def test_a_domain_error_crosses_with_its_details() -> None:
    async def bad(request, context):
        raise InvalidInput.field("pairs", "must be some")

    call, error = await refused(bad)
    assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert isinstance(error, InvalidInput)
    assert [v.field for v in error.violations] == ["pairs"]


async def test_a_known_wait_is_told_to_any_client() -> None:
    async def full(request, context):
        raise QueueFull("full", retry_after_s=0.75)

    call, error = await refused(full)
    assert error.retry_after_s == 0.75
    assert ("grpc-retry-pushback-ms", "750") in list(call.trailing_metadata())


async def test_an_unknown_error_says_an_id_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(request, context):
        raise RuntimeError("the password is swordfish")

    with caplog.at_level(logging.ERROR):
        call, error = await refused(broken)
    assert call.code() is grpc.StatusCode.INTERNAL
    assert "swordfish" not in f"{call.details()} {list(call.trailing_metadata())}"
    assert error.metadata["incident"] in caplog.text
    assert "swordfish" in caplog.text


async def test_a_time_out_of_the_servicers_own_is_not_the_callers_deadline() -> None:
    async def waits_for_another(request, context):
        raise TimeoutError("the disk did not answer")

    call, error = await refused(waits_for_another)
    assert (call.code(), error.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")


async def test_an_unknown_method_is_counted_apart() -> None:
    async with echo(answer) as running:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await anext(aiter(running.stream()))
        assert running.sample("attune_rpc_started_total", method="other") == 1
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_callers_cancellation_reaches_the_servicer() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def waits(request, context):
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with echo(waits) as running:
        call = asyncio.create_task(running.score())
        await began.wait()
        call.cancel()
        await asyncio.wait_for(ended.wait(), 5)
        await asyncio.gather(call, return_exceptions=True)
    assert running.sample("attune_rpc_duration_seconds_count", method=METHOD, status="CANCELLED") == 1


def ended(running: Echo, status: str) -> float:
    return running.sample("attune_rpc_duration_seconds_count", method=STREAM_METHOD, status=status)


async def one(request, context):
    yield policy_pb2.GenerateStreamResponse()


async def one_then_refused(request, context):
    yield policy_pb2.GenerateStreamResponse()
    raise QueueFull("full", retry_after_s=0.75)


async def one_then_broken(request, context):
    yield policy_pb2.GenerateStreamResponse()
    raise RuntimeError("the password is swordfish")


async def one_then_nothing(request, context):
    yield policy_pb2.GenerateStreamResponse()
    await asyncio.Event().wait()


async def test_a_stream_is_served_and_counted() -> None:
    async with echo(answer, one) as running:
        assert len([response async for response in running.stream()]) == 1
        assert running.sample("attune_rpc_started_total", method=STREAM_METHOD) == 1
        assert ended(running, "OK") == 1


@pytest.mark.parametrize(
    ("stream", "timeout_s", "answered", "status", "reason"),
    [
        (one, None, 0, "INVALID_ARGUMENT", "DEADLINE_REQUIRED"),
        (one_then_refused, 5.0, 1, "RESOURCE_EXHAUSTED", "QUEUE_FULL"),
        (one_then_broken, 5.0, 1, "INTERNAL", "INTERNAL"),
        (one_then_nothing, 30.0, 1, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"),
    ],
)
async def test_a_stream_ends_with_its_error_after_what_it_sent(
    stream: StreamBehaviour, timeout_s: float | None, answered: int, status: str, reason: str
) -> None:
    received: list[policy_pb2.GenerateStreamResponse] = []

    async def read_all(call: grpc.aio.UnaryStreamCall) -> None:
        async for response in call:
            received.append(response)

    async with echo(answer, stream, max_deadline_s=0.5) as running:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await read_all(running.stream(timeout_s))
        assert ended(running, status) == 1
    assert (len(received), raised.value.code().name, error_of_call(raised.value).reason) == (answered, status, reason)
    assert "swordfish" not in f"{raised.value.details()} {list(raised.value.trailing_metadata())}"


async def without_end(request, context):
    """Much, so that the caller's window fills and the server waits in sending, outside of this generator."""
    while True:
        yield policy_pb2.GenerateStreamResponse(generation_id="x" * 1_000_000)


@pytest.mark.parametrize("stream", [one_then_nothing, without_end])
async def test_a_cancelled_stream_is_counted_as_such(stream: StreamBehaviour) -> None:
    async with echo(answer, stream) as running:
        call = running.stream()
        await call.read()
        call.cancel()
        await eventually(lambda: ended(running, "CANCELLED") == 1)
        assert ended(running, "OK") == 0


APP, APP_KEY = new_key("shop", ["score"])
OPERATOR, OPERATOR_KEY = new_key("ana", ["control"])


@pytest.fixture
def keys(tmp_path: Path) -> Access:
    write_keys(tmp_path / "keys.json", [APP_KEY, OPERATOR_KEY])
    return Access(KeyStore(tmp_path / "keys.json"))


async def whose(request, context) -> reward_pb2.ScoreResponse:
    return reward_pb2.ScoreResponse(revision=caller().name)


async def whose_stream(request, context):
    yield policy_pb2.GenerateStreamResponse(generation_id=caller().name)


@pytest.mark.parametrize(("scope", "bearer", "name"), [(Scope.SCORE, APP, "shop"), (Scope.CONTROL, OPERATOR, "ana")],
                         ids=["app", "operator"])  # fmt: skip
async def test_the_servicer_is_told_who_calls(keys: Access, scope: Scope, bearer: str, name: str) -> None:
    async with echo(whose, whose_stream, access=keys, scope=scope) as running:
        assert (await running.score(bearer=bearer)).revision == name
        assert [r.generation_id async for r in running.stream(bearer=bearer)] == [name]
    assert caller() is ANYBODY


@pytest.mark.parametrize(
    ("scope", "bearer", "status"),
    [
        (Scope.SCORE, "", "UNAUTHENTICATED"),
        (Scope.SCORE, APP + "x", "UNAUTHENTICATED"),
        (Scope.SCORE, OPERATOR, "PERMISSION_DENIED"),
        (Scope.GENERATE, APP, "PERMISSION_DENIED"),
        (Scope.CONTROL, "", "UNAUTHENTICATED"),
        (Scope.CONTROL, APP, "PERMISSION_DENIED"),
    ],
    ids=["no key", "wrong key", "operator at an app port", "other scope", "no key for control", "app for control"],
)
async def test_a_call_without_the_right_key_does_not_reach_the_servicer(
    keys: Access, scope: Scope, bearer: str, status: str, caplog: pytest.LogCaptureFixture
) -> None:
    reached: list[str] = []

    async def reach(request, context) -> reward_pb2.ScoreResponse:
        reached.append("unary")
        return reward_pb2.ScoreResponse()

    async def reach_stream(request, context):
        reached.append("stream")
        yield policy_pb2.GenerateStreamResponse()

    with caplog.at_level(logging.DEBUG):
        async with echo(reach, reach_stream, access=keys, scope=scope) as running:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await running.score(bearer=bearer)
            with pytest.raises(grpc.aio.AioRpcError) as raised_of_stream:
                await anext(aiter(running.stream(bearer=bearer)))
            assert running.sample("attune_rpc_duration_seconds_count", method=METHOD, status=status) == 1
    assert [raised.value.code().name, raised_of_stream.value.code().name, *reached] == [status, status]
    assert error_of_call(raised.value).reason == status
    assert not bearer or bearer not in caplog.text + str(raised.value)


async def test_probes_and_reflection_need_no_key(keys: Access) -> None:
    async with echo(whose, access=keys) as running:
        check = health_pb2_grpc.HealthStub(running.channel).Check
        assert (await check(health_pb2.HealthCheckRequest(), timeout=5)).status
        stub = reflection_pb2_grpc.ServerReflectionStub(running.channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        async for response in stub.ServerReflectionInfo(iter([asked]), timeout=5):
            assert response.list_services_response.service
            break


TRACEPARENT = f"00-{0xA:032x}-{0xB:016x}-01"


async def test_a_call_has_a_span_in_the_trace_of_its_caller() -> None:
    async def traced(request, context) -> reward_pb2.ScoreResponse:
        return reward_pb2.ScoreResponse(revision=tracing.traceparent())

    with recorded() as spans:
        async with echo(traced, scope=Scope.SCORE) as running:
            stub = reward_pb2_grpc.RewardServiceStub(running.channel)
            metadata = (("traceparent", TRACEPARENT),)
            inside = (await stub.Score(reward_pb2.ScoreRequest(), timeout=5, metadata=metadata)).revision
            await running.score()
        first, second = spans.named(METHOD.removeprefix("/"))
    assert inside == traceparent_of(first)
    assert trace_of(first) == 0xA != trace_of(second)
    assert first.attributes is not None
    assert first.attributes["rpc.response.status_code"] == "OK"


async def test_a_refused_call_is_no_fault_and_an_unexpected_failure_is_one() -> None:
    async def fails(request, context) -> reward_pb2.ScoreResponse:
        raise errors.pop()

    errors = [RuntimeError("secret"), InvalidInput("secret")]
    with recorded() as spans:
        async with echo(fails, scope=Scope.SCORE) as running:
            for _ in range(2):
                with pytest.raises(grpc.aio.AioRpcError):
                    await running.score()
    refused, failed = spans.all()
    assert (refused.status.is_unset, failed.status.description) == (True, "INTERNAL")
    assert "secret" not in refused.to_json() + failed.to_json()


async def test_a_stream_has_a_span_for_as_long_as_it_goes() -> None:
    async def stream(request, context):
        yield policy_pb2.GenerateStreamResponse(generation_id=tracing.traceparent())
        yield policy_pb2.GenerateStreamResponse(generation_id=tracing.traceparent())

    with recorded() as spans:
        async with echo(answer, stream, scope=Scope.GENERATE) as running:
            inside = {response.generation_id async for response in running.stream()}
        assert inside == {traceparent_of(spans.one(STREAM_METHOD.removeprefix("/")))}


async def test_who_polls_a_control_port_makes_no_traces() -> None:
    with recorded() as spans:
        async with echo(answer, scope=Scope.CONTROL) as running:
            await running.score()
    assert not spans.all()
