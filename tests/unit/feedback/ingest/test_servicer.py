"""FeedbackService over in-process gRPC: receipts, statuses, streams, deadlines."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest
from attune.api.feedback.v1 import feedback_pb2, feedback_pb2_grpc
from attune.client.errors import error_of_call, from_status
from attune.domain.access import Scope
from attune.domain.errors import EventLogUnavailable, FeedbackConflict, InvalidInput, PermissionDenied, QueueFull
from attune.domain.feedback import Demonstration, FeedbackEvent, Rating
from attune.feedback.ingest.acceptor import Acceptor
from attune.feedback.ingest.intake import Intake
from attune.feedback.ingest.metrics import IngestMetrics
from attune.feedback.ingest.servicer import SERVICE, FeedbackServicer
from attune.platform.access.keys import KeyStore, new_key, write_keys
from attune.platform.access.settings import OPEN, Access
from attune.platform.events.log import Topic
from attune.platform.events.memory import MemoryEventLog
from attune.platform.rpc.interceptors import RpcMetrics
from attune.platform.rpc.server import RpcServer
from feedback_samples import APP, NOON_S, an_event, an_id, completion
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import CollectorRegistry
from support.eventually import eventually
from unit.feedback.ingest.gated import GatedProducer, stored

Stub = feedback_pb2_grpc.FeedbackServiceStub
TIMEOUT_S = 10.0


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def servicer(log: MemoryEventLog, registry: CollectorRegistry) -> AsyncIterator[FeedbackServicer]:
    producer = log.producer(Topic.FEEDBACK)
    async with Acceptor(producer, queue_events=500, clock=lambda: NOON_S) as acceptor:
        yield FeedbackServicer(Intake(acceptor, IngestMetrics(registry)))


@asynccontextmanager
async def connected(
    servicer: FeedbackServicer, registry: CollectorRegistry, access: Access = OPEN
) -> AsyncIterator[grpc.aio.Channel]:
    server = RpcServer(
        {SERVICE: servicer.register},
        host="127.0.0.1",
        port=0,
        metrics=RpcMetrics(registry),
        access=access,
        scope=Scope.FEEDBACK,
    )
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield channel
    await server.stop(1.0)


@asynccontextmanager
async def served(servicer: FeedbackServicer) -> AsyncIterator[Stub]:
    async with connected(servicer, CollectorRegistry()) as channel:
        yield feedback_pb2_grpc.FeedbackServiceStub(channel)


@pytest.fixture
async def channel(servicer: FeedbackServicer, registry: CollectorRegistry) -> AsyncIterator[grpc.aio.Channel]:
    async with connected(servicer, registry) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> Stub:
    return feedback_pb2_grpc.FeedbackServiceStub(channel)


def submission(event: FeedbackEvent) -> feedback_pb2.SubmitFeedbackRequest:
    return feedback_pb2.SubmitFeedbackRequest(event=event.to_proto())


def records(log: MemoryEventLog) -> int:
    return log.consumer(Topic.FEEDBACK).end_offset(0)


async def test_an_event_is_acknowledged_with_a_receipt(stub: Stub, log: MemoryEventLog) -> None:
    response = await stub.SubmitFeedback(submission(an_event()), timeout=TIMEOUT_S)
    assert response.receipt.event_id == an_id(1001)
    assert response.receipt.accept_time.seconds == NOON_S
    assert not response.receipt.repeated_event
    assert records(log) == 1


async def test_a_repeat_succeeds_and_a_conflict_does_not(
    stub: Stub, log: MemoryEventLog, registry: CollectorRegistry
) -> None:
    await stub.SubmitFeedback(submission(an_event()), timeout=TIMEOUT_S)
    again = await stub.SubmitFeedback(submission(an_event()), timeout=TIMEOUT_S)
    assert again.receipt.repeated_event
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.SubmitFeedback(submission(an_event(1, Rating(completion(1), 0.0))), timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert isinstance(error_of_call(caught.value), FeedbackConflict)
    assert records(log) == 1
    assert registry.get_sample_value("attune_feedback_repeated_total") == 1
    assert registry.get_sample_value("attune_feedback_conflicts_total", {"where": "ingest"}) == 1
    assert registry.get_sample_value("attune_feedback_ack_duration_seconds_count") == 2
    for outcome in ("accepted", "repeated", "conflict"):
        labels = {"kind": "rating", "outcome": outcome}
        assert registry.get_sample_value("attune_feedback_events_total", labels) == 1


@pytest.mark.parametrize(
    ("rating", "field"), [(math.nan, "event.rating.value"), (1.01, "event.rating.value"), (-1.0, "event.rating.value")]
)
async def test_a_bad_rating_is_refused_by_its_field(stub: Stub, log: MemoryEventLog, rating: float, field: str) -> None:
    request = submission(an_event())
    request.event.rating.value = rating
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.SubmitFeedback(request, timeout=TIMEOUT_S)
    error = error_of_call(caught.value)
    assert isinstance(error, InvalidInput)
    assert [v.field for v in error.violations] == [field]
    assert records(log) == 0


async def test_a_time_no_calendar_has_is_refused(stub: Stub) -> None:
    request = submission(an_event())
    request.event.occurred_time.seconds = 2**63 - 1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.SubmitFeedback(request, timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_batch_answers_each_event_and_is_one_record(stub: Stub, log: MemoryEventLog) -> None:
    events = [an_event(number).to_proto() for number in (1, 2, 3, 2)]
    events[2].rating.value = math.nan
    events.append(an_event(1, Rating(completion(1), 0.0)).to_proto())
    response = await stub.IngestFeedback(feedback_pb2.IngestFeedbackRequest(events=events), timeout=TIMEOUT_S)
    assert [result.event_id for result in response.results] == [event.event_id for event in events]
    assert [result.status.code for result in response.results] == [0, 0, 3, 0, 6]
    assert response.results[3].receipt.repeated_event
    assert isinstance(from_status(response.results[2].status), InvalidInput)
    assert "events[2].rating.value" in response.results[2].status.message
    assert isinstance(from_status(response.results[4].status), FeedbackConflict)
    assert sum(1 for result in response.results if result.HasField("receipt")) == 3


@pytest.mark.parametrize("number", [0, 1001])
async def test_a_batch_has_its_limits(stub: Stub, number: int) -> None:
    request = feedback_pb2.IngestFeedbackRequest(events=[an_event().to_proto()] * number)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.IngestFeedback(request, timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_what_the_queue_cannot_hold_is_refused_with_a_wait(stub: Stub) -> None:
    events = [an_event(number).to_proto() for number in range(1000)]
    response = await stub.IngestFeedback(feedback_pb2.IngestFeedbackRequest(events=events), timeout=TIMEOUT_S)
    refused = [from_status(result.status) for result in response.results if result.status.code]
    assert all(isinstance(error, QueueFull) and error.retry_after_s for error in refused)
    accepted = [result.event_id for result in response.results if not result.status.code]
    assert len(accepted) >= 500
    assert len(accepted) + len(refused) == 1000


async def test_a_full_log_is_unavailable_and_recovers(stub: Stub, log: MemoryEventLog) -> None:
    log.max_bytes = 1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.SubmitFeedback(submission(an_event()), timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    error = error_of_call(caught.value)
    assert isinstance(error, EventLogUnavailable)
    assert error.retry_after_s
    log.max_bytes = None
    response = await stub.SubmitFeedback(submission(an_event()), timeout=TIMEOUT_S)
    assert not response.receipt.repeated_event


async def test_a_silent_log_is_unavailable_before_the_deadline_and_the_event_counts_once(
    gated: GatedProducer, log: MemoryEventLog, registry: CollectorRegistry
) -> None:
    async with Acceptor(gated) as acceptor, served(FeedbackServicer(Intake(acceptor, IngestMetrics(registry)))) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.SubmitFeedback(submission(an_event()), timeout=1.0)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        error = error_of_call(caught.value)
        assert isinstance(error, EventLogUnavailable)
        assert error.retry_after_s
        gated.gate.set()
        assert (await stub.SubmitFeedback(submission(an_event()), timeout=TIMEOUT_S)).receipt.repeated_event
    assert records(log) == 1


async def test_a_flood_is_refused_with_when_to_come_back_and_what_was_taken_is_kept(
    gated: GatedProducer, log: MemoryEventLog, registry: CollectorRegistry
) -> None:
    async with (
        Acceptor(gated, queue_events=100) as acceptor,
        served(FeedbackServicer(Intake(acceptor, IngestMetrics(registry)))) as stub,
    ):
        calls = [
            asyncio.ensure_future(stub.SubmitFeedback(submission(an_event(number)), timeout=TIMEOUT_S))
            for number in range(400)
        ]
        await eventually(lambda: sum(call.done() for call in calls) == 300)
        gated.gate.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert {call.code() for call in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert all(error_of_call(call).retry_after_s for call in refused)
    assert ("grpc-retry-pushback-ms", "1000") in list(refused[0].trailing_metadata())
    taken = {answer.receipt.event_id for answer in answers if not isinstance(answer, grpc.aio.AioRpcError)}
    assert len(taken) == 100
    assert taken == {name for record in stored(log) for name in record}


async def test_a_call_without_a_deadline_is_refused(stub: Stub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.SubmitFeedback(submission(an_event()))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_stream_answers_in_order_and_refuses_one_by_one(stub: Stub) -> None:
    async def requests() -> AsyncIterator[feedback_pb2.StreamFeedbackRequest]:
        for number in range(600):
            proto = an_event(number).to_proto()
            if number == 300:
                proto.subject_id = ""
            yield feedback_pb2.StreamFeedbackRequest(event=proto)

    results = [response.result async for response in stub.StreamFeedback(requests(), timeout=30.0)]
    assert [result.event_id for result in results] == [an_id(1000 + number) for number in range(600)]
    assert [i for i, result in enumerate(results) if result.status.code] == [300]


async def test_a_stream_answers_before_it_is_asked_again(stub: Stub) -> None:
    call = stub.StreamFeedback(timeout=TIMEOUT_S)
    for number in (1, 2):
        await call.write(feedback_pb2.StreamFeedbackRequest(event=an_event(number).to_proto()))
        response = await call.read()
        assert response.result.receipt.event_id == an_id(1000 + number)
    await call.done_writing()
    assert await call.read() == grpc.aio.EOF


async def test_a_cancelled_stream_leaves_the_server_serving(stub: Stub) -> None:
    call = stub.StreamFeedback(timeout=TIMEOUT_S)
    await call.write(feedback_pb2.StreamFeedbackRequest(event=an_event(1).to_proto()))
    await call.read()
    call.cancel()
    response = await stub.SubmitFeedback(submission(an_event(2)), timeout=TIMEOUT_S)
    assert response.receipt.event_id == an_id(1002)


async def test_many_callers_with_one_event_write_it_once(stub: Stub, log: MemoryEventLog) -> None:
    long = an_event(1, Demonstration(completion(1), "x" * 1000))
    responses = await asyncio.gather(*(stub.SubmitFeedback(submission(long), timeout=TIMEOUT_S) for _ in range(50)))
    assert sum(not response.receipt.repeated_event for response in responses) == 1
    assert records(log) == 1


@pytest.mark.parametrize("method", ["SubmitFeedback", "IngestFeedback"])
@pytest.mark.parametrize("raw", [b"\xff", b"\x0a\x05ab", b"\x0a\x04\x0a\x02\xff\xfe"], ids=["tag", "length", "utf8"])
async def test_bytes_that_are_no_request_are_the_callers_fault(
    channel: grpc.aio.Channel, method: str, raw: bytes
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(f"/{SERVICE}/{method}")(raw, timeout=TIMEOUT_S)
    assert isinstance(error_of_call(caught.value), InvalidInput)


async def test_bytes_that_are_no_message_end_a_stream_after_its_answers(channel: grpc.aio.Channel) -> None:
    good = feedback_pb2.StreamFeedbackRequest(event=an_event().to_proto()).SerializeToString()
    call = channel.stream_stream(f"/{SERVICE}/StreamFeedback")(iter([good, b"\xff", good]), timeout=TIMEOUT_S)
    answer = feedback_pb2.StreamFeedbackResponse.FromString(await call.read())
    assert answer.result.receipt.event_id == an_id(1001)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert isinstance(error_of_call(caught.value), InvalidInput)


async def test_the_service_is_found_by_reflection(channel: grpc.aio.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    requests = iter([reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)])
    (response,) = [response async for response in stub.ServerReflectionInfo(requests, timeout=TIMEOUT_S)]
    assert response.file_descriptor_response.file_descriptor_proto


async def test_draining_ends_streams_with_every_answer_given(stub: Stub, servicer: FeedbackServicer) -> None:
    call = stub.StreamFeedback(timeout=TIMEOUT_S)
    await call.write(feedback_pb2.StreamFeedbackRequest(event=an_event().to_proto()))
    assert (await call.read()).result.receipt.event_id == an_id(1001)
    servicer.drain()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    error = error_of_call(caught.value)
    assert isinstance(error, EventLogUnavailable)
    assert error.retry_after_s


async def test_a_key_brings_events_of_its_app_alone(servicer: FeedbackServicer, tmp_path: Path) -> None:
    key, kept = new_key(APP, ["feedback"])
    write_keys(tmp_path / "keys.json", [kept])
    metadata = (("authorization", f"Bearer {key}"),)
    nameless, foreign = an_event(2).to_proto(), an_event(3).to_proto()
    nameless.app_id, foreign.app_id = "", "another"
    protos = [an_event(1).to_proto(), nameless, foreign]
    many = feedback_pb2.IngestFeedbackRequest(events=protos)
    async with connected(servicer, CollectorRegistry(), Access(KeyStore(tmp_path / "keys.json"))) as channel:
        stub = feedback_pb2_grpc.FeedbackServiceStub(channel)
        ingested = (await stub.IngestFeedback(many, timeout=TIMEOUT_S, metadata=metadata)).results
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.SubmitFeedback(
                feedback_pb2.SubmitFeedbackRequest(event=foreign), timeout=TIMEOUT_S, metadata=metadata
            )
        sent = iter([feedback_pb2.StreamFeedbackRequest(events=protos)])
        (streamed,) = [r async for r in stub.StreamFeedback(sent, timeout=TIMEOUT_S, metadata=metadata)]
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await stub.IngestFeedback(many, timeout=TIMEOUT_S)
    for results in (ingested, streamed.results):
        assert [result.HasField("receipt") for result in results] == [True, True, False]
        assert isinstance(from_status(results[2].status), PermissionDenied)
    assert isinstance(error_of_call(refused.value), PermissionDenied)
    assert unknown.value.code() is grpc.StatusCode.UNAUTHENTICATED
