"""Outcomes on the wire."""

from __future__ import annotations

from attune.api.feedback.v1 import feedback_pb2
from attune.client.errors import from_status
from attune.client.results import feedback_result
from attune.domain.errors import InvalidInput, QueueFull
from attune.feedback.ingest.acceptor import Receipt
from attune.feedback.ingest.answers import Answers
from feedback_samples import NOON_S, an_event, an_id


def test_a_receipt_stands_beside_an_ok_under_the_id_as_sent() -> None:
    sent = an_event().to_proto()
    sent.event_id = sent.event_id.upper()
    answer = feedback_pb2.FeedbackResult()
    Answers().result(answer, sent, Receipt(an_id(1001), NOON_S, True))
    assert answer.event_id == sent.event_id
    assert answer.HasField("status")
    assert answer.status.code == 0
    read = feedback_result(answer)
    assert (read.event_id, read.accept_time, read.is_repeat) == (an_id(1001), NOON_S, True)


def test_events_that_share_a_refusal_or_a_time_get_a_copy_each() -> None:
    response, answers = feedback_pb2.IngestFeedbackResponse(), Answers()
    full = QueueFull("full", retry_after_s=1.5)
    outcomes = [full, Receipt(an_id(1), 1.0, False), full, Receipt(an_id(2), 1.0, False), InvalidInput("bad")]
    for number, outcome in enumerate(outcomes):
        answers.result(response.results.add(), an_event(number).to_proto(), outcome)
    assert [result.status.code for result in response.results] == [8, 0, 8, 0, 3]
    assert [from_status(response.results[i].status).retry_after_s for i in (0, 2)] == [1.5, 1.5]
    assert [result.receipt.accept_time.seconds for result in response.results] == [0, 1, 0, 1, 0]
    assert [result.HasField("receipt") for result in response.results] == [False, True, False, True, False]
