"""Responses become results."""

from __future__ import annotations

from attune.api.feedback.v1 import feedback_pb2
from attune.api.policy.v1 import policy_pb2
from attune.api.reward.v1 import reward_pb2
from attune.client.results import Delta, Receipt, Scores, feedback_result, stream_item
from attune.domain.errors import FeedbackConflict
from attune.domain.generations import FinishReason
from attune.domain.status import to_status
from attune.domain.times import to_timestamp

G = "01890a5d-ac96-774b-bcce-b302099a8057"


def test_a_delta_says_the_end_only_at_the_end() -> None:
    delta = policy_pb2.CompletionDelta(index=1, text="hi", token_ids=[3], logprobs=[-0.5])
    running = stream_item(policy_pb2.GenerateStreamResponse(generation_id=G, delta=delta))
    assert running == Delta(G, 1, "hi", (3,), (-0.5,), None)
    delta.finish_reason = FinishReason.LENGTH
    ended = stream_item(policy_pb2.GenerateStreamResponse(generation_id=G, delta=delta))
    assert isinstance(ended, Delta)
    assert ended.finish_reason is FinishReason.LENGTH


def test_a_result_of_feedback_is_a_receipt_or_an_error() -> None:
    receipt = feedback_pb2.FeedbackReceipt(event_id=G, accept_time=to_timestamp(3.5), repeated_event=True)
    assert feedback_result(feedback_pb2.FeedbackResult(event_id=G, receipt=receipt)) == Receipt(G, 3.5, True)
    refused = feedback_result(feedback_pb2.FeedbackResult(event_id=G, status=to_status(FeedbackConflict("other body"))))
    assert isinstance(refused, FeedbackConflict)


def test_scores() -> None:
    response = reward_pb2.ScoreResponse(
        revision="rewards/a/revisions/1", scores=[reward_pb2.Score(raw=1, normalised=-1)]
    )
    assert Scores.from_proto(response) == Scores("rewards/a/revisions/1", (1.0,), (-1.0,))
