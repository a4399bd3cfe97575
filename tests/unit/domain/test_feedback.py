"""Feedback: round trips, hashes, and every refusal by field."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from attune.api.types.v1 import feedback_pb2
from attune.domain.errors import InvalidInput
from attune.domain.feedback import AcceptedFeedback, Comparison, FeedbackEvent, Ranking, Rating
from attune.domain.ids import uuid7
from hypothesis import given
from hypothesis import strategies as st
from unit.domain.made import events, times

G = "01890a5d-ac96-774b-bcce-b302099a8057"
A, B, C = (f"{G}/{i}" for i in range(3))


def proto(**kind) -> feedback_pb2.FeedbackEvent:
    return feedback_pb2.FeedbackEvent(event_id=uuid7(), app_id="app", subject_id="ada", **kind)


def tiers(*named: list[str]) -> feedback_pb2.Ranking:
    return feedback_pb2.Ranking(tiers=[feedback_pb2.RankingTier(completion_ids=tier) for tier in named])


@given(events())
def test_an_event_comes_back_whole(event: FeedbackEvent) -> None:
    assert FeedbackEvent.from_proto(event.to_proto()) == event


@given(events(), times)
def test_an_accepted_event_comes_back_whole(event: FeedbackEvent, accept_time: float) -> None:
    accepted = AcceptedFeedback(event, accept_time)
    assert AcceptedFeedback.from_proto(accepted.to_proto()) == accepted


@given(events(), events())
def test_the_body_hash_is_of_everything_but_the_id(one: FeedbackEvent, other: FeedbackEvent) -> None:
    assert one.body_hash == replace(one, event_id=other.event_id).body_hash
    assert (one.body_hash == other.body_hash) == (replace(one, event_id="") == replace(other, event_id=""))


@given(st.permutations([A, B, C]))
def test_a_changed_ranking_is_the_same_opinion(order: list[str]) -> None:
    first = FeedbackEvent(uuid7(), "app", "ada", Ranking(((A,), (B,), (C,))))
    assert replace(first, feedback=Ranking(tuple((c,) for c in order))).opinion_key == first.opinion_key
    assert replace(first, feedback=Ranking(((A,), (B,)))).opinion_key != first.opinion_key
    assert replace(first, subject_id="bob").opinion_key != first.opinion_key


def test_kinds_have_opinions_of_their_own() -> None:
    rated = FeedbackEvent(uuid7(), "app", "ada", Rating(A, 1.0))
    assert replace(rated, feedback=Rating(A, 0.0)).opinion_key == rated.opinion_key
    assert replace(rated, feedback=Comparison(A, B)).opinion_key != rated.opinion_key


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ({}, "event"),
        ({"rating": feedback_pb2.Rating(completion_id=A, value=1.1)}, "event.rating.value"),
        ({"rating": feedback_pb2.Rating(completion_id=A, value=-0.1)}, "event.rating.value"),
        ({"rating": feedback_pb2.Rating(completion_id=A, value=math.nan)}, "event.rating.value"),
        ({"rating": feedback_pb2.Rating(completion_id="7", value=1)}, "event.rating.completion_id"),
        ({"rating": feedback_pb2.Rating(completion_id=f"{G}/64", value=1)}, "event.rating.completion_id"),
        (
            {"comparison": feedback_pb2.Comparison(chosen_completion_id=A, rejected_completion_id=A)},
            "event.comparison.rejected_completion_id",
        ),
        ({"ranking": tiers([A])}, "event.ranking.tiers"),
        ({"ranking": tiers()}, "event.ranking.tiers"),
        ({"ranking": tiers([A], [])}, "event.ranking.tiers[1]"),
        ({"ranking": tiers([A], [B, A])}, "event.ranking.tiers[1].completion_ids[1]"),
        ({"ranking": tiers([A], [A.upper()])}, "event.ranking.tiers[1].completion_ids[0]"),
        ({"demonstration": feedback_pb2.Demonstration(completion_id=A, text="  ")}, "event.demonstration.text"),
    ],
)
def test_refused_by_field(kind: dict, field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        FeedbackEvent.from_proto(proto(**kind))
    assert [v.field for v in raised.value.violations] == [field]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"event_id": ""}, "event.event_id"),
        ({"app_id": ""}, "event.app_id"),
        ({"subject_id": ""}, "event.subject_id"),
        ({"source": "x" * 201}, "event.source"),
    ],
)
def test_who_and_what_must_be_named(changes: dict, field: str) -> None:
    event = proto(rating=feedback_pb2.Rating(completion_id=A, value=1))
    for name, value in changes.items():
        setattr(event, name, value)
    with pytest.raises(InvalidInput) as raised:
        FeedbackEvent.from_proto(event)
    assert [v.field for v in raised.value.violations] == [field]


def test_a_time_that_is_none_is_refused() -> None:
    event = proto(rating=feedback_pb2.Rating(completion_id=A, value=1))
    event.occurred_time.seconds = 2**62
    with pytest.raises(InvalidInput) as raised:
        FeedbackEvent.from_proto(event)
    assert [v.field for v in raised.value.violations] == ["event.occurred_time"]
