"""Records made of bytes are the batches that protobuf would have written."""

from __future__ import annotations

from attune.api.events.v1 import events_pb2
from attune.domain.feedback import AcceptedFeedback, FeedbackEvent
from attune.feedback.ingest.records import MAX_RECORD_BYTES, MAX_RECORD_EVENTS, records
from hypothesis import given
from hypothesis import strategies as st
from unit.domain.made import events, times

TRACED = [f"00-{number:032x}-{number:016x}-01" for number in (1, 2)]


@given(st.lists(events(), min_size=1, max_size=5), times)
def test_a_record_is_the_batch_of_its_events(sent: list[FeedbackEvent], accept_time: float) -> None:
    (value,) = records([event.to_proto().SerializeToString() for event in sent], accept_time)
    accepted = [AcceptedFeedback(event, accept_time) for event in sent]
    assert [AcceptedFeedback.from_proto(one) for one in events_pb2.FeedbackBatch.FromString(value).events] == accepted
    assert value == events_pb2.FeedbackBatch(events=[one.to_proto() for one in accepted]).SerializeToString()


@given(st.lists(st.tuples(events(), st.sampled_from(["", *TRACED])), min_size=1, max_size=5))
def test_each_event_keeps_the_trace_that_it_came_in(sent: list[tuple[FeedbackEvent, str]]) -> None:
    wires = [event.to_proto().SerializeToString() for event, _ in sent]
    (value,) = records(wires, 1.0, [traceparent for _, traceparent in sent])
    accepted = [AcceptedFeedback(event, 1.0, traceparent) for event, traceparent in sent]
    assert value == events_pb2.FeedbackBatch(events=[one.to_proto() for one in accepted]).SerializeToString()


@given(st.lists(st.integers(0, 300_000), max_size=20))
def test_no_event_is_lost_or_moved_by_the_cut(sizes: list[int]) -> None:
    sent = [_event_of(size) for size in sizes]
    found = [_texts(value) for value in records(sent, 1.0)]
    assert [text for record in found for text in record] == sizes
    assert all(found)


def test_records_have_two_limits() -> None:
    many = list(records([_event_of(1)] * (MAX_RECORD_EVENTS + 1), 1.0))
    assert [len(_texts(value)) for value in many] == [MAX_RECORD_EVENTS, 1]
    large = list(records([_event_of(200_000)] * 5, 1.0))
    assert [len(_texts(value)) for value in large] == [2, 2, 1]
    assert max(map(len, large)) < MAX_RECORD_BYTES


def test_an_event_above_the_limit_has_a_record_of_its_own() -> None:
    assert [_texts(value) for value in records([_event_of(9), _event_of(MAX_RECORD_BYTES), _event_of(9)], 1.0)] == [
        [9],
        [MAX_RECORD_BYTES],
        [9],
    ]


def test_nothing_makes_no_record() -> None:
    assert list(records([], 1.0)) == []


def _event_of(characters: int) -> bytes:
    event = events_pb2.AcceptedFeedback().event
    event.demonstration.text = "x" * characters
    return event.SerializeToString()


def _texts(value: bytes) -> list[int]:
    return [len(accepted.event.demonstration.text) for accepted in events_pb2.FeedbackBatch.FromString(value).events]
