"""A stream of feedback: ordered answers, shared where the sender allows it, a window, and an end with a reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest
from attune.api.feedback.v1 import feedback_pb2
from attune.domain.errors import EventLogUnavailable, InvalidInput
from attune.domain.feedback import Demonstration
from attune.feedback.ingest.acceptor import Acceptor
from attune.feedback.ingest.intake import Intake
from attune.feedback.ingest.metrics import IngestMetrics
from attune.feedback.ingest.stream import WINDOW_BYTES, WINDOW_EVENTS, FeedbackStream
from feedback_samples import an_event, an_id, completion
from prometheus_client import CollectorRegistry
from support.eventually import eventually
from unit.feedback.ingest.gated import GatedProducer

Response = feedback_pb2.StreamFeedbackResponse


@pytest.fixture
async def intake(gated: GatedProducer) -> AsyncIterator[Intake]:
    async with Acceptor(gated) as acceptor:
        yield Intake(acceptor, IngestMetrics(CollectorRegistry()))
        gated.gate.set()


def single(number: int) -> bytes:
    return feedback_pb2.StreamFeedbackRequest(event=an_event(number).to_proto()).SerializeToString()


def several(*numbers: int) -> bytes:
    events = [an_event(number).to_proto() for number in numbers]
    return feedback_pb2.StreamFeedbackRequest(events=events).SerializeToString()


async def sent(messages: Iterable[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


async def answers(stream: FeedbackStream) -> list[Response]:
    return [Response.FromString(raw) async for raw in stream.responses()]


def ids(responses: Iterable[Response]) -> list[str]:
    return [result.event_id for response in responses for result in response.results]


async def some_turns() -> None:
    """Time for a reader that would go on to go on."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_single_events_are_answered_one_by_one(intake: Intake, gated: GatedProducer) -> None:
    gated.gate.set()
    responses = await answers(FeedbackStream(intake, sent(map(single, range(5)))))
    assert [response.result.event_id for response in responses] == [an_id(1000 + number) for number in range(5)]
    assert ids(responses) == []


async def test_messages_that_wait_together_are_answered_together(intake: Intake, gated: GatedProducer) -> None:
    stream = FeedbackStream(intake, sent([several(1), several(2, 3), several(4)]))
    reading = asyncio.create_task(answers(stream))
    await eventually(gated.is_writing.is_set)
    gated.gate.set()
    responses = await reading
    assert ids(responses) == [an_id(1001), an_id(1002), an_id(1003), an_id(1004)]
    assert len(responses) < 3


async def test_the_order_stands_where_both_ways_are_mixed(intake: Intake, gated: GatedProducer) -> None:
    gated.gate.set()
    responses = await answers(FeedbackStream(intake, sent([several(1, 2), single(3), several(4)])))
    said = [ids([response]) or [response.result.event_id] for response in responses]
    assert said == [[an_id(1001), an_id(1002)], [an_id(1003)], [an_id(1004)]]


async def test_an_event_that_does_not_hold_is_refused_by_itself(intake: Intake, gated: GatedProducer) -> None:
    gated.gate.set()
    message = feedback_pb2.StreamFeedbackRequest.FromString(several(1, 2))
    message.events[1].subject_id = ""
    (response,) = await answers(FeedbackStream(intake, sent([message.SerializeToString()])))
    assert [result.status.code for result in response.results] == [0, 3]
    assert "events[1].subject_id" in response.results[1].status.message


async def test_an_empty_message_is_an_event_that_says_nothing(intake: Intake) -> None:
    (response,) = await answers(FeedbackStream(intake, sent([b""])))
    assert response.result.status.code == 3


@pytest.mark.parametrize(
    "bad",
    [
        b"\xff",
        feedback_pb2.StreamFeedbackRequest(events=[an_event().to_proto()] * 1001).SerializeToString(),
        several(1) + single(2),
    ],
    ids=["no message", "too many", "both ways"],
)
async def test_a_message_that_cannot_be_answered_ends_the_stream_after_the_answers(
    intake: Intake, gated: GatedProducer, bad: bytes
) -> None:
    gated.gate.set()
    responses = FeedbackStream(intake, sent([single(7), bad, single(8)])).responses()
    assert Response.FromString(await anext(responses)).result.event_id == an_id(1007)
    with pytest.raises(InvalidInput):
        await anext(responses)


async def test_a_stream_is_not_read_beyond_its_window(intake: Intake, gated: GatedProducer) -> None:
    read = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal read
        for number in range(2 * WINDOW_EVENTS):
            read += 1
            yield several(number)

    reading = asyncio.create_task(answers(FeedbackStream(intake, counted())))
    await eventually(lambda: read >= WINDOW_EVENTS)
    await some_turns()
    assert read == WINDOW_EVENTS
    gated.gate.set()
    assert len(ids(await reading)) == 2 * WINDOW_EVENTS


async def test_a_stream_of_long_events_is_not_read_beyond_its_window_either(
    intake: Intake, gated: GatedProducer
) -> None:
    read = 0
    long = an_event(1, Demonstration(completion(1), "x" * 100_000)).to_proto()
    message = feedback_pb2.StreamFeedbackRequest(events=[long] * 10).SerializeToString()

    async def counted() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(20):
            read += 1
            yield message

    reading = asyncio.create_task(answers(FeedbackStream(intake, counted())))
    await eventually(gated.is_writing.is_set)
    await some_turns()
    assert read == -(-WINDOW_BYTES // len(message))
    gated.gate.set()
    assert len(ids(await reading)) == 200


async def test_draining_answers_what_was_read_and_says_that_ingest_goes(intake: Intake, gated: GatedProducer) -> None:
    async def never_ending() -> AsyncIterator[bytes]:
        yield several(1, 2)
        await asyncio.Event().wait()

    stream = FeedbackStream(intake, never_ending())
    found: list[Response] = []

    async def read() -> None:
        async for raw in stream.responses():
            found.append(Response.FromString(raw))

    reading = asyncio.create_task(read())
    await eventually(gated.is_writing.is_set)
    stream.drain()
    gated.gate.set()
    with pytest.raises(EventLogUnavailable):
        await reading
    assert ids(found) == [an_id(1001), an_id(1002)]


async def test_a_stream_that_is_drained_before_it_began_ends(intake: Intake) -> None:
    stream = FeedbackStream(intake, sent([]))
    stream.drain()
    with pytest.raises(EventLogUnavailable):
        await answers(stream)


async def test_who_leaves_a_stream_ends_its_reading(intake: Intake, gated: GatedProducer) -> None:
    gated.gate.set()
    ended = asyncio.Event()

    async def watched() -> AsyncIterator[bytes]:
        try:
            yield several(1)
            await asyncio.Event().wait()
        finally:
            ended.set()

    responses = FeedbackStream(intake, watched()).responses()
    await anext(responses)
    await responses.aclose()
    await asyncio.wait_for(ended.wait(), 5)
