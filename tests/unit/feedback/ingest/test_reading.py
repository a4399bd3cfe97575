"""Events as they are read: the same as through the domain, whatever their spelling, with nothing unknown in them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from attune.api.feedback.v1 import feedback_pb2
from attune.api.types.v1 import feedback_pb2 as types_pb2
from attune.domain.errors import InvalidInput
from attune.domain.feedback import FeedbackEvent, Rating
from attune.domain.ids import uuid_bytes
from attune.feedback.ingest.reading import ReceivedEvent, RefusedEvent, parse, read, read_or_refuse
from feedback_samples import an_event
from hypothesis import given, settings
from unit.domain.made import events
from unit.domain.test_canonical import protos


@given(events())
def test_an_event_is_read_as_the_domain_has_it(event: FeedbackEvent) -> None:
    assert read(event.to_proto(), "event") == ReceivedEvent(
        event.event_id,
        uuid_bytes(event.event_id) + event.app_id.encode(),
        event.feedback.kind,
        event.to_proto().SerializeToString(),
        event.body_hash,
    )


@settings(max_examples=500, deadline=None)
@given(protos())
def test_the_rules_are_those_of_the_domain(proto: types_pb2.FeedbackEvent) -> None:
    found = read_or_refuse(proto, "events[{}]", 3)
    expected = through_the_domain(proto)
    if isinstance(expected, InvalidInput):
        assert isinstance(found, RefusedEvent)
        assert (found.error.violations, found.error.message) == (expected.violations, expected.message)
        assert found.kind == (proto.WhichOneof("feedback") or "none")
    elif expected.occurred_time >= 0:
        assert isinstance(found, ReceivedEvent)
        assert found.wire == expected.to_proto().SerializeToString()


def through_the_domain(proto: types_pb2.FeedbackEvent) -> FeedbackEvent | InvalidInput:
    try:
        return FeedbackEvent.from_proto(proto, "events[3]")
    except InvalidInput as error:
        return error


def test_unknown_fields_do_not_reach_the_log() -> None:
    known = an_event().to_proto().SerializeToString()
    unknown = bytes([15 << 3 | 2, 3]) + b"new"
    proto = types_pb2.FeedbackEvent.FromString(known + unknown)
    assert read(proto, "event").wire == known


def test_one_event_of_two_apps_has_two_keys() -> None:
    one = an_event()
    keys = {read(event.to_proto(), "event").key for event in (one, replace(one, app_id="other"))}
    assert len(keys) == 2


@pytest.mark.parametrize("seconds", [-1, 253_402_300_799, 253_402_300_800])
def test_a_time_beyond_the_calendar_is_refused(seconds: int) -> None:
    proto = an_event().to_proto()
    proto.occurred_time.seconds = seconds
    if seconds == 253_402_300_799:
        assert read(proto, "event")
        return
    with pytest.raises(InvalidInput) as raised:
        read(proto, "event")
    assert [v.field for v in raised.value.violations] == ["event.occurred_time"]


@pytest.mark.parametrize("raw", [b"\xff", b"\x0a\x05ab", b"\x0a\x04\x0a\x02\xff\xfe"])
def test_bytes_that_are_no_message_are_the_senders_fault(raw: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"no attune\.api\.feedback\.v1\.SubmitFeedbackRequest"):
        parse(feedback_pb2.SubmitFeedbackRequest, raw)


def test_a_message_is_parsed() -> None:
    sent = feedback_pb2.SubmitFeedbackRequest(event=an_event(1, Rating("x", 1.0)).to_proto())
    assert parse(feedback_pb2.SubmitFeedbackRequest, sent.SerializeToString()) == sent
