"""Conversations hold what the docstring promises, in about the shares it names."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from attune.client import FeedbackEvent
from attune.domain.feedback import FeedbackEvent as Event
from attune.domain.generations import Generation
from chaos.traffic import CHANGED, CONTRADICTED, LATE, NEVER, REPEATED, Conversation, Recorded, Traffic
from feedback_samples import an_event

MANY = 4000


@pytest.fixture
def conversations() -> list[Conversation]:
    traffic = Traffic(random.Random(1))
    return [traffic.conversation() for _ in range(MANY)]


def test_generations_and_events_are_such_as_the_product_takes(conversations: list[Conversation]) -> None:
    for conversation in conversations[:100]:
        generation = Generation.from_proto(conversation.generation)
        for event in conversation.events:
            assert Event.from_proto(event.to_proto()).body_hash == event.body_hash
            assert event.generation_ids == (generation.id,)


def test_generations_come_first_later_or_never(conversations: list[Conversation]) -> None:
    shares = Counter(conversation.recorded for conversation in conversations)
    assert shares[Recorded.LATER] / MANY == pytest.approx(LATE, abs=0.03)
    assert shares[Recorded.NEVER] / MANY == pytest.approx(NEVER, abs=0.01)


def test_some_change_their_minds_under_another_id(conversations: list[Conversation]) -> None:
    events = [event for conversation in conversations for event in conversation.events]
    assert len({event.event_id for event in events}) == len(events)
    changed = len(events) - len({event.opinion_key for event in events})
    assert changed / len(events) == pytest.approx(CHANGED, abs=0.01)


def test_some_events_come_again_and_some_of_them_with_another_body() -> None:
    traffic, event = Traffic(random.Random(2)), an_event(1)
    more: list[FeedbackEvent | None] = [traffic.again(event) for _ in range(MANY)]
    assert more.count(event) / MANY == pytest.approx(REPEATED, abs=0.01)
    others = [one for one in more if one not in (None, event)]
    assert len(others) / MANY == pytest.approx(CONTRADICTED, abs=0.005)
    assert all(one.event_id == event.event_id and one.body_hash != event.body_hash for one in others)
