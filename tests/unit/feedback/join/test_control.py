"""FeedbackControlService over in-process gRPC, on a join that has read a small log."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc.aio
import pytest
from attune.api.feedback.v1 import control_pb2, control_pb2_grpc
from attune.client.errors import error_of_call
from attune.domain.errors import FeedbackUnknown
from attune.domain.feedback import Rating
from attune.feedback.join.control import FeedbackControlServicer
from attune.feedback.join.store import Advance, Store
from attune.feedback.join.tail import Tail
from attune.platform.events.log import Topic
from attune.platform.events.memory import MemoryEventLog
from attune.platform.rpc.interceptors import RpcMetrics
from attune.platform.rpc.server import RpcServer
from feedback_samples import APP, NOON_S, Script, a_generation, an_event, an_id, completion
from prometheus_client import CollectorRegistry

Stub = control_pb2_grpc.FeedbackControlServiceStub
TIMEOUT_S = 10.0


@pytest.fixture
async def stub(store: Store) -> AsyncIterator[Stub]:
    log = MemoryEventLog()
    log.producer(Topic.FEEDBACK).append([b"x"] * 5)
    tail = Tail({topic: log.consumer(topic) for topic in (Topic.GENERATIONS, Topic.FEEDBACK)}, store.offset)
    script = Script()
    entries = [
        script.generation(a_generation(1)),
        script.generation(a_generation(2, prompt="who are you?", subject_id="bob")),
        script.event(an_event(1)),
        script.event(an_event(2, Rating(completion(2), 1.0), subject_id="bob")),
        script.event(an_event(3, Rating(completion(9), 1.0), subject_id="bob")),
    ]
    store.commit(entries, [Advance(Topic.FEEDBACK, 0, 0, 3)])
    servicer = FeedbackControlServicer(store, tail, None, log_retention_s=100.0, clock=lambda: NOON_S)
    server = RpcServer(
        {
            "attune.api.feedback.v1.FeedbackControlService": lambda server: (
                control_pb2_grpc.add_FeedbackControlServiceServicer_to_server(servicer, server)
            )
        },
        host="127.0.0.1",
        port=0,
        metrics=RpcMetrics(CollectorRegistry()),
    )
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield control_pb2_grpc.FeedbackControlServiceStub(channel)
    await server.stop(1.0)


async def test_examples_are_read_in_pages(stub: Stub) -> None:
    first = await stub.ReadExamples(control_pb2.ReadExamplesRequest(page_size=1), timeout=TIMEOUT_S)
    assert ([e.sequence for e in first.examples], first.last_sequence, first.end_sequence) == ([1], 1, 2)
    second = await stub.ReadExamples(control_pb2.ReadExamplesRequest(after_sequence=1), timeout=TIMEOUT_S)
    assert [e.event_id for e in second.examples] == [an_id(1002)]


async def test_prompts_are_read_in_pages(stub: Stub) -> None:
    first = await stub.ReadPrompts(control_pb2.ReadPromptsRequest(page_size=1), timeout=TIMEOUT_S)
    rest = await stub.ReadPrompts(control_pb2.ReadPromptsRequest(after_sequence=first.last_sequence), timeout=TIMEOUT_S)
    asked = [p.prompt.conversation.messages[0].content for p in (*first.prompts, *rest.prompts)]
    assert asked == ["where is my order?", "who are you?"]
    assert all(len(p.prompt_hash) == 64 for p in rest.prompts)
    empty = await stub.ReadPrompts(control_pb2.ReadPromptsRequest(after_sequence=2), timeout=TIMEOUT_S)
    assert (list(empty.prompts), empty.last_sequence) == ([], 2)


async def test_an_event_is_shown_with_its_state(stub: Stub) -> None:
    request = control_pb2.GetFeedbackRequest(app_id=APP, event_id=an_id(1003))
    response = await stub.GetFeedback(request, timeout=TIMEOUT_S)
    assert (response.state, response.reason) == (control_pb2.FEEDBACK_STATE_PENDING, "GENERATION_UNKNOWN")
    assert response.event == an_event(3, Rating(completion(9), 1.0), subject_id="bob").to_proto()
    assert response.accept_time.seconds == int(NOON_S) + 5


async def test_an_unknown_event_is_not_found(stub: Stub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetFeedback(control_pb2.GetFeedbackRequest(app_id=APP, event_id=an_id(77)), timeout=TIMEOUT_S)
    assert isinstance(error_of_call(caught.value), FeedbackUnknown)


async def test_a_person_is_erased(stub: Stub) -> None:
    request = control_pb2.EraseSubjectRequest(app_id=APP, subject_id="ann")
    response = await stub.EraseSubject(request, timeout=TIMEOUT_S)
    assert (response.examples_erased, response.events_erased, response.generations_erased) == (1, 1, 1)
    assert list(response.example_sequences) == [1]
    assert response.log_empty_time.seconds == int(NOON_S) + 100
    assert "not unlearned" in response.notice
    assert "No registry" in response.notice
    shown = await stub.GetFeedback(control_pb2.GetFeedbackRequest(app_id=APP, event_id=an_id(1001)), timeout=TIMEOUT_S)
    assert shown.state == control_pb2.FEEDBACK_STATE_ERASED
    assert not shown.HasField("event")
    page = await stub.ReadExamples(control_pb2.ReadExamplesRequest(), timeout=TIMEOUT_S)
    assert [(r.sequence, r.reason) for r in page.removals] == [(1, control_pb2.REMOVAL_REASON_ERASED)]


async def test_the_status_counts_states_and_shows_the_lag(stub: Stub) -> None:
    status = await stub.GetStatus(control_pb2.GetStatusRequest(), timeout=TIMEOUT_S)
    counts = {entry.state: entry.events for entry in status.states}
    assert counts == {control_pb2.FEEDBACK_STATE_PENDING: 1, control_pb2.FEEDBACK_STATE_JOINED: 2}
    assert {(t.topic, t.offset, t.lag_records) for t in status.topics} == {
        ("attune.feedback", 3, 2),
        ("attune.generations", 0, 0),
    }
    assert status.end_sequence == 2


@pytest.mark.parametrize(
    "request_",
    [
        control_pb2.ReadExamplesRequest(page_size=1001),
        control_pb2.ReadExamplesRequest(after_sequence=-1),
        control_pb2.ReadExamplesRequest(after_removal=-1),
    ],
)
async def test_pages_have_their_limits(stub: Stub, request_: control_pb2.ReadExamplesRequest) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ReadExamples(request_, timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
