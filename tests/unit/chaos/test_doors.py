"""What the doors make of answers: only what no server said, or said to come back for, is sent again."""

from __future__ import annotations

import pytest
from attune.client import Receipt
from attune.domain.errors import (
    AttuneError,
    DeadlineExceeded,
    EventLogUnavailable,
    FeedbackConflict,
    InvalidInput,
    QueueFull,
    ServerUnavailable,
)
from attune.platform.events.log import Topic
from attune.platform.events.memory import MemoryEventLog
from chaos.doors import Direct, of_answer, of_code, of_result
from chaos.evidence import on_topic
from chaos.ledger import Outcome, Said
from feedback_samples import an_event

RESULTS = [
    (Receipt("an id", 1.0, False), Outcome.TAKEN),
    (ServerUnavailable("killed"), Outcome.AGAIN),
    (DeadlineExceeded("stalled"), Outcome.AGAIN),
    (EventLogUnavailable("no broker"), Outcome.AGAIN),
    (QueueFull("full"), Outcome.AGAIN),
    (AttuneError("reset", metadata={"grpc_status": "INTERNAL"}), Outcome.AGAIN),
    (FeedbackConflict("other body"), Outcome.CONFLICT),
    (InvalidInput("bad"), Outcome.WRONG),
    (AttuneError("a fault of the server"), Outcome.WRONG),
]


@pytest.mark.parametrize(("result", "outcome"), RESULTS, ids=[type(result).__name__ for result, _ in RESULTS])
def test_results_of_grpc(result: Receipt | AttuneError, outcome: Outcome) -> None:
    assert of_result(result).outcome is outcome


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0, Outcome.AGAIN),
        (200, Outcome.TAKEN),
        (409, Outcome.CONFLICT),
        (429, Outcome.AGAIN),
        (503, Outcome.AGAIN),
        (504, Outcome.AGAIN),
        (400, Outcome.WRONG),
        (500, Outcome.WRONG),
    ],
)
def test_answers_of_http(status: int, outcome: Outcome) -> None:
    assert of_answer(status, "a body").outcome is outcome


@pytest.mark.parametrize(
    ("code", "outcome"),
    [(0, Outcome.TAKEN), (6, Outcome.CONFLICT), (14, Outcome.AGAIN), (8, Outcome.AGAIN), (13, Outcome.WRONG)],
)
def test_statuses_within_a_batch_of_http(code: int, outcome: Outcome) -> None:
    assert of_code({"code": code}).outcome is outcome


async def test_the_topic_takes_what_an_app_writes_until_it_is_closed() -> None:
    log = MemoryEventLog()
    producer, events = log.producer(Topic.FEEDBACK), [an_event(1), an_event(2)]
    door = Direct(producer)
    assert [answer.outcome for answer in await door.send(events)] == [Outcome.TAKEN] * 2
    assert on_topic(log) == [Said.of(event) for event in events]
    producer.close()
    assert [answer.outcome for answer in await door.send(events)] == [Outcome.AGAIN] * 2
