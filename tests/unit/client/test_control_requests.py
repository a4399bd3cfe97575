"""Control calls: what may be tried again, and results as domain types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attune.api.feedback.v1 import control_pb2
from attune.client import control_requests as requests
from attune.client.calls import Call
from attune.domain.examples import Example, ExampleCompletion
from attune.domain.feedback import FeedbackEvent, FeedbackState, Rating
from attune.domain.prompts import Prompt
from attune.domain.times import to_timestamp

G = "01890a5d-ac96-774b-bcce-b302099a8057"
EVENT = FeedbackEvent(G, "shop", "ana", Rating(f"{G}/0", 1.0))
EXAMPLE = Example(4, Prompt.user("Hi"), (ExampleCompletion(f"{G}/0", "yo", "policies/a/revisions/1"),), EVENT, 2.0, 1.0)


def test_what_is_not_the_same_twice_is_tried_once() -> None:
    once = [requests.rollback("ana", "", ""), requests.promote("7", "ana", ""), requests.erase_subject("shop", "ana")]
    assert not any(call.may_retry for call in once)
    assert requests.POLICY.load_revision("7", 3, 60).may_retry


@pytest.mark.parametrize(
    "status", [requests.POLICY.status, requests.REWARD.status, requests.join_status, requests.trainer_status],
    ids=["policy", "reward", "join", "trainer"],
)  # fmt: skip
def test_a_status_is_waited_for_as_long_as_was_said(status: Callable[[float], Call[Any]]) -> None:
    assert status(1.5).timeout_s == 1.5


def test_a_page_of_examples() -> None:
    removal = control_pb2.ExampleRemoval(id=9, sequence=2, reason=control_pb2.REMOVAL_REASON_ERASED)
    page = requests.read_examples(0, 0, 0).read(
        control_pb2.ReadExamplesResponse(
            examples=[EXAMPLE.to_proto()], last_sequence=4, end_sequence=6, removals=[removal], last_removal=9
        )
    )
    assert page.examples == (EXAMPLE,)
    assert page.removals == (requests.Removal(9, 2, "ERASED"),)
    assert (page.last_sequence, page.end_sequence, page.last_removal) == (4, 6, 9)


def test_a_report_of_feedback() -> None:
    read = requests.get_feedback("shop", G).read
    joined = read(
        control_pb2.GetFeedbackResponse(
            state=control_pb2.FEEDBACK_STATE_JOINED,
            event=EVENT.to_proto(),
            accept_time=to_timestamp(2.0),
            example_sequence=4,
        )
    )
    assert joined == requests.FeedbackReport(FeedbackState.JOINED, "", EVENT, 2.0, 4)
    erased = read(control_pb2.GetFeedbackResponse(state=control_pb2.FEEDBACK_STATE_ERASED, reason="SUBJECT_ERASED"))
    assert erased.event is None
