"""Events as JSON, in and out: strict, and whatever comes, an error of the sender and never another."""

from __future__ import annotations

import json

from attune.domain.errors import FieldViolation, InvalidInput, QueueFull
from attune.domain.feedback import FeedbackEvent
from attune.feedback.ingest.web.bodies import read_event, to_json, without_prefix
from attune.platform.web.bodies import read_json
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.domain.made import events

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    "eventId", "event_id", "appId", "subjectId", "source", "occurredTime", "rating", "comparison", "ranking",
    "demonstration", "completionId", "value", "tiers", "completionIds", "text", "chosenCompletionId",
)  # fmt: skip
shaped = st.recursive(
    values | st.sampled_from(["NaN", "2026-01-01T00:00:00Z", "9999-12-31T23:59:60Z", "\ud800", "1e400"]),
    lambda inner: st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5) | st.lists(inner, max_size=3),
    max_leaves=12,
)


@given(events())
def test_an_event_comes_through_json_whole(event: FeedbackEvent) -> None:
    body = json.dumps(MessageToDict(event.to_proto())).encode()
    proto, error = read_event(read_json(body), "event")
    assert error is None
    assert FeedbackEvent.from_proto(proto) == event


def test_names_may_be_those_of_the_proto() -> None:
    proto, error = read_event({"event_id": "x", "rating": {"completion_id": "y", "value": 1}}, "event")
    assert error is None
    assert (proto.event_id, proto.rating.completion_id, proto.rating.value) == ("x", "y", 1.0)


@settings(max_examples=1000, deadline=None)
@given(shaped)
def test_a_value_that_is_no_event_is_the_senders_fault(value: object) -> None:
    try:
        body = read_json(json.dumps(value).encode())
    except InvalidInput:
        return
    proto, error = read_event(body, "events[1]")
    if error is not None:
        assert [v.field for v in error.violations] == ["events[1]"]
        assert not proto.ByteSize()


def test_an_answer_names_fields_that_are_not_set() -> None:
    proto, _ = read_event({"eventId": "x"}, "event")
    assert json.loads(to_json(proto)) == {"eventId": "x", "appId": "", "subjectId": "", "source": ""}


def test_fields_are_named_from_inside_the_body() -> None:
    inner = without_prefix(InvalidInput.field("event.rating.value", "must be less"), "event.")
    assert inner.violations == (FieldViolation("rating.value", "must be less"),)
    assert inner.message == "rating.value: must be less"
    full = QueueFull("full", retry_after_s=1.0)
    assert without_prefix(full, "event.") is full
