"""What calls give back: results read from responses, once, for the blocking and the asyncio client alike."""

from __future__ import annotations

from dataclasses import dataclass

from attune.api.feedback.v1 import feedback_pb2
from attune.api.policy.v1 import policy_pb2
from attune.api.reward.v1 import reward_pb2
from attune.client.errors import from_status
from attune.domain.errors import AttuneError
from attune.domain.generations import FinishReason, Generation
from attune.domain.times import from_timestamp


@dataclass(frozen=True)
class GenerationResult:
    """A finished generation; feedback on one that was not `recorded` stays pending."""

    generation: Generation
    recorded: bool

    @property
    def texts(self) -> tuple[str, ...]:
        """The completions' texts, in order."""
        return tuple(c.text for c in self.generation.completions)

    @classmethod
    def from_proto(cls, proto: policy_pb2.GenerateResponse) -> GenerationResult:
        return cls(Generation.from_proto(proto.generation), proto.recorded)


@dataclass(frozen=True)
class Delta:
    """What completion `index` gained; `finish_reason` is set on its last one."""

    generation_id: str
    index: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason | None

    @classmethod
    def from_proto(cls, generation_id: str, proto: policy_pb2.CompletionDelta) -> Delta:
        finish_reason = FinishReason(proto.finish_reason) if proto.finish_reason else None
        return cls(generation_id, proto.index, proto.text, tuple(proto.token_ids), tuple(proto.logprobs), finish_reason)


@dataclass(frozen=True)
class Receipt:
    """The event log has the event for good, since `accept_time` (seconds). `is_repeat`: ingest knew it already."""

    event_id: str
    accept_time: float
    is_repeat: bool

    @classmethod
    def from_proto(cls, proto: feedback_pb2.FeedbackReceipt) -> Receipt:
        return cls(proto.event_id, from_timestamp(proto.accept_time), proto.repeated_event)


@dataclass(frozen=True)
class Scores:
    """One number a pair, in order: the head's output, and the same on the scale of the revision's anchor set."""

    revision: str
    raw: tuple[float, ...]
    normalised: tuple[float, ...]

    @classmethod
    def from_proto(cls, proto: reward_pb2.ScoreResponse) -> Scores:
        return cls(proto.revision, tuple(s.raw for s in proto.scores), tuple(s.normalised for s in proto.scores))


def stream_item(proto: policy_pb2.GenerateStreamResponse) -> Delta | GenerationResult:
    """A message of GenerateStream: a delta, or at the end the whole result."""
    if proto.WhichOneof("event") == "final":
        return GenerationResult.from_proto(proto.final)
    return Delta.from_proto(proto.generation_id, proto.delta)


def feedback_result(proto: feedback_pb2.FeedbackResult) -> Receipt | AttuneError:
    """The receipt of an event, or the error for which it was not taken."""
    return from_status(proto.status) if proto.status.code else Receipt.from_proto(proto.receipt)
