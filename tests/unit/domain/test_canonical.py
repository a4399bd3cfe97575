"""The fast check and from_proto agree, whatever stands on the wire; and what Attune writes passes the fast check."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attune.api.types.v1 import feedback_pb2
from attune.domain.canonical import is_canonical
from attune.domain.errors import InvalidInput
from attune.domain.feedback import MAX_DEMONSTRATION_CHARACTERS, FeedbackEvent
from attune.domain.ids import uuid7
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.domain.made import events

G = "01890a5d-ac96-774b-bcce-b302099a8057"

spellings = st.sampled_from(
    ["", G, G.upper(), "{" + G + "}", G.replace("-", ""), f"urn:uuid:{G}", G[:-1], f"{G}\n", "٠" * 8 + G[8:]]
)
indices = st.sampled_from(["", "/", "/0", "/00", "/01", "/9", "/10", "/63", "/64", "/+1", "/1_0", "/ 1", "/١", "/0/0"])
completions = st.builds(str.__add__, spellings, indices) | st.integers(0, 63).map(lambda i: f"{G}/{i}")
names = st.sampled_from(["a", "", " ", "a\n", "\x00", "x" * 200, "x" * 201, "ä", "\u200b", "\u2028", "𝔘" * 200])
texts = st.sampled_from(["", " ", "\u3000\n", "\x1c", "\u200b", "a", "x" * 200, " " * 200 + "x"])
values = st.floats() | st.sampled_from([0.0, -0.0, 1.0, 5e-324, 1.0000000000000002, -5e-324])
seconds = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, 2**32 - 1, 2**32, 253_402_300_799, 253_402_300_800])
nanos = st.integers(-(2**31), 2**31 - 1) | st.sampled_from([0, 1, 999, 1000, 999_999_000, 999_999_999, 1_000_000_000])


@st.composite
def protos(draw: st.DrawFn) -> feedback_pb2.FeedbackEvent:
    """A valid event, and then some of its fields set to what is often not valid or not canonical."""
    proto = draw(events()).to_proto()
    for change in draw(st.lists(st.sampled_from(CHANGES), max_size=3)):
        change(proto, draw)
    return proto


def _name(field: str) -> Callable[[feedback_pb2.FeedbackEvent, st.DrawFn], None]:
    return lambda proto, draw: setattr(proto, field, draw(names))


def _event_id(proto: feedback_pb2.FeedbackEvent, draw: st.DrawFn) -> None:
    proto.event_id = draw(spellings)


def _time(proto: feedback_pb2.FeedbackEvent, draw: st.DrawFn) -> None:
    proto.occurred_time.seconds, proto.occurred_time.nanos = draw(seconds), draw(nanos)


def _no_feedback(proto: feedback_pb2.FeedbackEvent, draw: st.DrawFn) -> None:
    proto.ClearField(proto.WhichOneof("feedback") or "rating")


def _rating(proto: feedback_pb2.FeedbackEvent, draw: st.DrawFn) -> None:
    proto.rating.completion_id, proto.rating.value = draw(completions), draw(values)


def _comparison(proto: feedback_pb2.FeedbackEvent, draw: st.DrawFn) -> None:
    proto.comparison.chosen_completion_id, proto.comparison.rejected_completion_id = (
        draw(completions),
        draw(completions),
    )


def _ranking(proto: feedback_pb2.FeedbackEvent, draw: st.DrawFn) -> None:
    proto.ranking.SetInParent()
    for tier in draw(st.lists(st.lists(completions, max_size=3), max_size=4)):
        proto.ranking.tiers.add().completion_ids.extend(tier)


def _long_ranking(proto: feedback_pb2.FeedbackEvent, draw: st.DrawFn) -> None:
    proto.ranking.ClearField("tiers")
    for number in range(draw(st.sampled_from([63, 64, 65]))):
        proto.ranking.tiers.add().completion_ids.append(f"{G[:-1]}{number // 64}/{number % 64}")


def _demonstration(proto: feedback_pb2.FeedbackEvent, draw: st.DrawFn) -> None:
    proto.demonstration.completion_id, proto.demonstration.text = draw(completions), draw(texts)


CHANGES = (
    _name("app_id"), _name("subject_id"), _name("source"), _event_id, _time, _no_feedback, _rating, _comparison,
    _ranking, _long_ranking, _demonstration,
)  # fmt: skip


@settings(max_examples=800, deadline=None)
@given(protos())
def test_what_is_canonical_is_taken_and_written_again_byte_for_byte(proto: feedback_pb2.FeedbackEvent) -> None:
    wire = proto.SerializeToString(deterministic=True)
    try:
        again = FeedbackEvent.from_proto(proto).to_proto().SerializeToString(deterministic=True)
    except InvalidInput:
        assert not is_canonical(proto)
    else:
        is_usual = 0 <= proto.occurred_time.seconds < 2**32
        assert is_canonical(proto) is (again == wire and is_usual)


@given(events())
def test_what_attune_writes_is_canonical(event: FeedbackEvent) -> None:
    assert is_canonical(event.to_proto())


@pytest.mark.parametrize("length", [MAX_DEMONSTRATION_CHARACTERS, MAX_DEMONSTRATION_CHARACTERS + 1])
def test_a_demonstration_has_one_limit(length: int) -> None:
    proto = feedback_pb2.FeedbackEvent(event_id=uuid7(), app_id="app", subject_id="ada")
    proto.demonstration.completion_id, proto.demonstration.text = f"{G}/0", "x" * length
    assert is_canonical(proto) is (length == MAX_DEMONSTRATION_CHARACTERS)


def test_a_time_set_to_nothing_is_not_canonical() -> None:
    proto = feedback_pb2.FeedbackEvent(event_id=uuid7(), app_id="app", subject_id="ada")
    proto.rating.completion_id = f"{G}/0"
    assert is_canonical(proto)
    proto.occurred_time.SetInParent()
    assert not is_canonical(proto)
