"""Feedback: rating, comparison, ranking, demonstration. Events validate as they are read from the wire.

All kinds name completions; a kind's `completion_ids` are those, in the order of first naming. Supersession goes by
(app, subject, kind, set of completions): the last accepted event counts.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from attune.api.events.v1 import events_pb2
from attune.api.types.v1 import feedback_pb2
from attune.domain.errors import InvalidInput
from attune.domain.generations import checked_name
from attune.domain.ids import canonical_uuid, parse_completion_id
from attune.domain.times import from_timestamp, to_timestamp
from attune.domain.traces import checked_traceparent

MAX_RANKED = 64
MAX_DEMONSTRATION_CHARACTERS = 100_000
ID_FIELD_BYTES = 2 + 36
"""A canonical id on the wire: tag, length, characters."""


@dataclass(frozen=True)
class Rating:
    """How good one completion is, in [0, 1]; a thumb is 0 or 1."""

    kind: ClassVar[str] = "rating"
    completion_id: str
    value: float

    @property
    def completion_ids(self) -> tuple[str, ...]:
        return (self.completion_id,)

    def to_proto(self) -> feedback_pb2.Rating:
        return feedback_pb2.Rating(completion_id=self.completion_id, value=self.value)


@dataclass(frozen=True)
class Comparison:
    """Which of two completions is better."""

    kind: ClassVar[str] = "comparison"
    chosen_id: str
    rejected_id: str

    @property
    def completion_ids(self) -> tuple[str, ...]:
        return (self.chosen_id, self.rejected_id)

    def to_proto(self) -> feedback_pb2.Comparison:
        return feedback_pb2.Comparison(chosen_completion_id=self.chosen_id, rejected_completion_id=self.rejected_id)


@dataclass(frozen=True)
class Ranking:
    """Tiers of completions, best first; completions of one tier are equally good."""

    kind: ClassVar[str] = "ranking"
    tiers: tuple[tuple[str, ...], ...]

    @property
    def completion_ids(self) -> tuple[str, ...]:
        return tuple(c for tier in self.tiers for c in tier)

    def to_proto(self) -> feedback_pb2.Ranking:
        return feedback_pb2.Ranking(tiers=[feedback_pb2.RankingTier(completion_ids=tier) for tier in self.tiers])


@dataclass(frozen=True)
class Demonstration:
    """The answer it should have been, an edit included."""

    kind: ClassVar[str] = "demonstration"
    completion_id: str
    text: str

    @property
    def completion_ids(self) -> tuple[str, ...]:
        return (self.completion_id,)

    def to_proto(self) -> feedback_pb2.Demonstration:
        return feedback_pb2.Demonstration(completion_id=self.completion_id, text=self.text)


Feedback = Rating | Comparison | Ranking | Demonstration


class FeedbackState(IntEnum):
    """Where an event stands in the join; values as on the wire."""

    ACCEPTED = 1
    PENDING = 2
    JOINED = 3
    SUPERSEDED = 4
    CONFLICT = 5
    EXPIRED = 6
    ERASED = 7


@dataclass(frozen=True)
class FeedbackEvent:
    """One thing a person said. `occurred_time` is the sender's clock in seconds, 0.0 if unset."""

    event_id: str
    app_id: str
    subject_id: str
    feedback: Feedback
    source: str = ""
    occurred_time: float = 0.0

    @property
    def generation_ids(self) -> tuple[str, ...]:
        """The generations it names, each once, in order of first naming."""
        return tuple(dict.fromkeys(c.partition("/")[0] for c in self.feedback.completion_ids))

    @property
    def body_hash(self) -> bytes:
        """SHA-256 of everything but the event id; two events of one id with other hashes conflict."""
        return body_hash_of(self.to_proto().SerializeToString(deterministic=True))

    @property
    def opinion_key(self) -> bytes:
        """SHA-256 of (app, subject, kind, set of completions): of events with one key the last accepted counts."""
        parts = [self.app_id, self.subject_id, self.feedback.kind, *sorted(self.feedback.completion_ids)]
        return hashlib.sha256("\x1f".join(parts).encode()).digest()

    def to_proto(self) -> feedback_pb2.FeedbackEvent:
        return feedback_pb2.FeedbackEvent(
            event_id=self.event_id,
            app_id=self.app_id,
            subject_id=self.subject_id,
            source=self.source,
            occurred_time=to_timestamp(self.occurred_time) if self.occurred_time else None,
            **{self.feedback.kind: self.feedback.to_proto()},  # type: ignore[arg-type]
        )

    @classmethod
    def from_proto(cls, proto: feedback_pb2.FeedbackEvent, field: str = "event") -> FeedbackEvent:
        """Validates every field; ids come out canonical."""
        return cls(
            event_id=canonical_uuid(proto.event_id, f"{field}.event_id"),
            app_id=checked_name(proto.app_id, f"{field}.app_id"),
            subject_id=checked_name(proto.subject_id, f"{field}.subject_id"),
            feedback=_feedback_from_proto(proto, field),
            source=checked_name(proto.source, f"{field}.source") if proto.source else "",
            occurred_time=from_timestamp(proto.occurred_time, f"{field}.occurred_time"),
        )


def body_hash_of(body: bytes) -> bytes:
    """The `body_hash` of a serialised event whose ids are canonical: its own id is the first field."""
    return hashlib.sha256(body[ID_FIELD_BYTES:]).digest()


@dataclass(frozen=True)
class AcceptedFeedback:
    """An event, the second at which ingest accepted it, and the trace in which that was, if any."""

    event: FeedbackEvent
    accept_time: float
    traceparent: str = ""

    def to_proto(self) -> events_pb2.AcceptedFeedback:
        return events_pb2.AcceptedFeedback(
            event=self.event.to_proto(), accept_time=to_timestamp(self.accept_time), traceparent=self.traceparent
        )

    @classmethod
    def from_proto(cls, proto: events_pb2.AcceptedFeedback) -> AcceptedFeedback:
        traceparent = checked_traceparent(proto.traceparent)
        return cls(FeedbackEvent.from_proto(proto.event), from_timestamp(proto.accept_time), traceparent=traceparent)


def _completion(text: str, field: str) -> str:
    generation, index = parse_completion_id(text, field)
    return f"{generation}/{index}"


def _feedback_from_proto(proto: feedback_pb2.FeedbackEvent, field: str) -> Feedback:
    kind = proto.WhichOneof("feedback")
    if kind is None:
        raise InvalidInput.field(field, "set one of rating, comparison, ranking, demonstration")
    where = f"{field}.{kind}"
    match kind:
        case "rating":
            return _rating(proto.rating, where)
        case "comparison":
            return _comparison(proto.comparison, where)
        case "ranking":
            return _ranking(proto.ranking, where)
        case _:
            return _demonstration(proto.demonstration, where)


def is_rating(value: float) -> bool:
    """Whether it is a number in [0, 1]; NaN is none."""
    return 0 <= value <= 1


def _rating(proto: feedback_pb2.Rating, field: str) -> Rating:
    if not is_rating(proto.value):
        raise InvalidInput.field(f"{field}.value", "must be a number in [0, 1]")
    return Rating(_completion(proto.completion_id, f"{field}.completion_id"), proto.value)


def _comparison(proto: feedback_pb2.Comparison, field: str) -> Comparison:
    chosen = _completion(proto.chosen_completion_id, f"{field}.chosen_completion_id")
    rejected = _completion(proto.rejected_completion_id, f"{field}.rejected_completion_id")
    if chosen == rejected:
        raise InvalidInput.field(f"{field}.rejected_completion_id", "must differ from the chosen one")
    return Comparison(chosen, rejected)


def _ranking(proto: feedback_pb2.Ranking, field: str) -> Ranking:
    tiers = []
    seen: set[str] = set()
    for i, tier in enumerate(proto.tiers):
        if not tier.completion_ids:
            raise InvalidInput.field(f"{field}.tiers[{i}]", "must name at least one completion")
        names = []
        for j, text in enumerate(tier.completion_ids):
            where = f"{field}.tiers[{i}].completion_ids[{j}]"
            name = _completion(text, where)
            if name in seen:
                raise InvalidInput.field(where, "is named twice in the ranking")
            seen.add(name)
            names.append(name)
        tiers.append(tuple(names))
    if not 2 <= len(seen) <= MAX_RANKED:
        raise InvalidInput.field(f"{field}.tiers", f"must rank 2 to {MAX_RANKED} completions")
    return Ranking(tuple(tiers))


def is_demonstration(text: str) -> bool:
    """Whether a text can be the answer it should have been: not blank, and of bounded length."""
    return len(text) <= MAX_DEMONSTRATION_CHARACTERS and not text.isspace() and text != ""


def _demonstration(proto: feedback_pb2.Demonstration, field: str) -> Demonstration:
    if not is_demonstration(proto.text):
        raise InvalidInput.field(f"{field}.text", f"must have 1 to {MAX_DEMONSTRATION_CHARACTERS} characters")
    return Demonstration(_completion(proto.completion_id, f"{field}.completion_id"), proto.text)
