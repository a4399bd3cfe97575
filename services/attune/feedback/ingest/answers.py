"""Outcomes on the wire: receipts, and results with a google.rpc.Status each."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2

from attune.api.feedback.v1 import feedback_pb2
from attune.api.types.v1 import feedback_pb2 as types_pb2
from attune.domain.errors import AttuneError
from attune.domain.status import to_status
from attune.domain.times import to_timestamp
from attune.feedback.ingest.acceptor import Outcome, Receipt


class Answers:
    """Writes the answers of one response; what many of them share (an accept time, a refusal) is made once."""

    def __init__(self) -> None:
        self._times: dict[float, Timestamp] = {}
        self._statuses: dict[int, status_pb2.Status] = {}

    def result(self, answer: feedback_pb2.FeedbackResult, sent: types_pb2.FeedbackEvent, outcome: Outcome) -> None:
        """What became of an event, under its id as sent."""
        answer.event_id = sent.event_id
        if isinstance(outcome, AttuneError):
            answer.status.CopyFrom(self._status(outcome))
        else:
            answer.status.SetInParent()
            self.receipt(answer.receipt, outcome)

    def receipt(self, answer: feedback_pb2.FeedbackReceipt, outcome: Receipt) -> None:
        answer.event_id, accept_time, answer.repeated_event = outcome
        if (stamp := self._times.get(accept_time)) is None:
            stamp = self._times[accept_time] = to_timestamp(accept_time)
        answer.accept_time.CopyFrom(stamp)

    def _status(self, error: AttuneError) -> status_pb2.Status:
        if (status := self._statuses.get(id(error))) is None:
            status = self._statuses[id(error)] = to_status(error)
        return status
