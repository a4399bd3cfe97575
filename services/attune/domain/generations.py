"""Generations: what was asked, how tokens were drawn, what was written and by which revision."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TypeVar

from attune.api.policy.v1 import policy_pb2
from attune.api.types.v1 import generations_pb2
from attune.domain.errors import FieldViolation, InvalidInput
from attune.domain.ids import MAX_COMPLETIONS, canonical_uuid
from attune.domain.prompts import Prompt
from attune.domain.times import from_timestamp, to_timestamp
from attune.domain.traces import checked_traceparent

MAX_NAME_CHARACTERS = 200
MAX_STOP_STRINGS = 16
E = TypeVar("E", bound=IntEnum)


class FinishReason(IntEnum):
    """Why a completion ended; values as on the wire."""

    UNSPECIFIED = 0
    EOS = 1
    LENGTH = 2
    STOP_STRING = 3
    CANCELLED = 4


class Purpose(IntEnum):
    """What a generation is for; values as on the wire."""

    USER = 1
    ROLLOUT = 2


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. `max_tokens` counts the EOS; `top_k` 0 and `top_p` 1 are no limit; seed None is drawn."""

    max_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    completions: int = 1

    def to_proto(self) -> generations_pb2.SamplingParameters:
        return generations_pb2.SamplingParameters(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            seed=self.seed,
            stop=self.stop,
            completions=self.completions,
        )

    @classmethod
    def from_proto(
        cls,
        proto: generations_pb2.SamplingParameters,
        defaults: Sampling | None = None,
        field: str = "sampling",
    ) -> Sampling:
        """Absent fields take `defaults`; InvalidInput lists every field out of range."""
        names = ("max_tokens", "temperature", "top_p", "top_k", "seed", "completions")
        given = {name: getattr(proto, name) for name in names if proto.HasField(name)}
        sampling = replace(defaults or cls(), **given, stop=tuple(proto.stop))
        if bad := list(_sampling_violations(sampling, field)):
            raise InvalidInput("; ".join(f"{v.field}: {v.description}" for v in bad), violations=bad)
        return sampling


def _sampling_violations(s: Sampling, field: str) -> Iterable[FieldViolation]:
    if s.max_tokens < 1:
        yield FieldViolation(f"{field}.max_tokens", "must be at least 1")
    if not (math.isfinite(s.temperature) and 0.01 <= s.temperature <= 100):
        yield FieldViolation(f"{field}.temperature", "must be in [0.01, 100]; for greedy decoding set top_k = 1")
    if not 0 < s.top_p <= 1:
        yield FieldViolation(f"{field}.top_p", "must be in (0, 1]")
    if not 1 <= s.completions <= MAX_COMPLETIONS:
        yield FieldViolation(f"{field}.completions", f"must be in 1..{MAX_COMPLETIONS}")
    if len(s.stop) > MAX_STOP_STRINGS or not all(s.stop):
        yield FieldViolation(f"{field}.stop", f"at most {MAX_STOP_STRINGS} strings, none empty")


@dataclass(frozen=True)
class RevisionSpan:
    """Tokens [first_token, first_token + tokens) of a completion, written by one revision (full name)."""

    revision: str
    first_token: int
    tokens: int


@dataclass(frozen=True)
class Completion:
    """One answer. `token_ids` and `logprobs` have the same length; the EOS is among them, not in `text`."""

    id: str
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    spans: tuple[RevisionSpan, ...]

    def to_proto(self) -> generations_pb2.Completion:
        spans = [
            generations_pb2.RevisionSpan(revision=s.revision, first_token=s.first_token, tokens=s.tokens)
            for s in self.spans
        ]
        return generations_pb2.Completion(
            id=self.id,
            text=self.text,
            token_ids=self.token_ids,
            logprobs=self.logprobs,
            finish_reason=int(self.finish_reason),  # type: ignore[arg-type]
            spans=spans,
        )

    @classmethod
    def from_proto(cls, proto: generations_pb2.Completion) -> Completion:
        return cls(
            id=proto.id,
            text=proto.text,
            token_ids=tuple(proto.token_ids),
            logprobs=tuple(proto.logprobs),
            finish_reason=_checked_enum(FinishReason, proto.finish_reason, "finish_reason"),
            spans=tuple(RevisionSpan(s.revision, s.first_token, s.tokens) for s in proto.spans),
        )


@dataclass(frozen=True)
class Generation:
    """One Generate call and what came of it; `create_time` in seconds since the epoch; `traceparent` may be empty."""

    id: str
    app_id: str
    subject_id: str
    prompt: Prompt
    prompt_token_ids: tuple[int, ...]
    completions: tuple[Completion, ...]
    revision: str
    sampling: Sampling
    purpose: Purpose
    create_time: float
    traceparent: str = ""

    def to_proto(self) -> generations_pb2.Generation:
        return generations_pb2.Generation(
            id=self.id,
            app_id=self.app_id,
            subject_id=self.subject_id,
            prompt=self.prompt.to_proto(),
            prompt_token_ids=self.prompt_token_ids,
            completions=[c.to_proto() for c in self.completions],
            revision=self.revision,
            sampling=self.sampling.to_proto(),
            purpose=int(self.purpose),  # type: ignore[arg-type]
            create_time=to_timestamp(self.create_time),
            traceparent=self.traceparent,
        )

    @classmethod
    def from_proto(cls, proto: generations_pb2.Generation) -> Generation:
        """Validates what the join relies on: id, app, prompt, and completion ids that follow from the id."""
        generation_id = canonical_uuid(proto.id, "id")
        for i, completion in enumerate(proto.completions):
            if completion.id != f"{generation_id}/{i}":
                raise InvalidInput.field(f"completions[{i}].id", f"must be {generation_id}/{i}")
        return cls(
            id=generation_id,
            app_id=checked_name(proto.app_id, "app_id"),
            subject_id=proto.subject_id,
            prompt=Prompt.from_proto(proto.prompt),
            prompt_token_ids=tuple(proto.prompt_token_ids),
            completions=tuple(Completion.from_proto(c) for c in proto.completions),
            revision=proto.revision,
            sampling=Sampling.from_proto(proto.sampling),
            purpose=_checked_enum(Purpose, proto.purpose or Purpose.USER, "purpose"),
            create_time=from_timestamp(proto.create_time),
            traceparent=checked_traceparent(proto.traceparent),
        )


@dataclass(frozen=True)
class GenerateRequest:
    """A request to write completions; `generation_id` empty lets the server choose, `revision` empty is stable."""

    app_id: str
    prompt: Prompt
    sampling: Sampling
    generation_id: str = ""
    subject_id: str = ""
    revision: str = ""
    purpose: Purpose = Purpose.USER

    def to_proto(self) -> policy_pb2.GenerateRequest:
        return policy_pb2.GenerateRequest(
            app_id=self.app_id,
            generation_id=self.generation_id,
            subject_id=self.subject_id,
            prompt=self.prompt.to_proto(),
            sampling=self.sampling.to_proto(),
            revision=self.revision,
            purpose=int(self.purpose),  # type: ignore[arg-type]
        )

    @classmethod
    def from_proto(cls, proto: policy_pb2.GenerateRequest, defaults: Sampling | None = None) -> GenerateRequest:
        """Validates every field; a rollout with truncated sampling is refused, for its log-probabilities would not
        be those of the distribution it was drawn from."""
        purpose = _checked_enum(Purpose, proto.purpose or Purpose.USER, "purpose")
        sampling = Sampling.from_proto(proto.sampling, defaults)
        if purpose is Purpose.ROLLOUT and (sampling.top_p < 1 or sampling.top_k > 0):
            raise InvalidInput.field(
                "sampling.top_p", "a rollout must draw from the full distribution: top_p 1, top_k 0"
            )
        return cls(
            app_id=checked_name(proto.app_id, "app_id"),
            prompt=Prompt.from_proto(proto.prompt),
            sampling=sampling,
            generation_id=canonical_uuid(proto.generation_id, "generation_id") if proto.generation_id else "",
            subject_id=checked_name(proto.subject_id, "subject_id") if proto.subject_id else "",
            revision=proto.revision,
            purpose=purpose,
        )


def _checked_enum(cls: type[E], value: int, field: str) -> E:
    """The member, or InvalidInput: enums are open on the wire, and a newer sender may know more of them."""
    try:
        return cls(value)
    except ValueError:
        raise InvalidInput.field(field, f"must be one of {', '.join(member.name for member in cls)}") from None


def is_name(text: str) -> bool:
    """Whether an app may choose it as a name: 1..200 printable characters."""
    return 0 < len(text) <= MAX_NAME_CHARACTERS and text.isprintable()


def checked_name(text: str, field: str) -> str:
    """A name an app chooses, or InvalidInput that names the field."""
    if not is_name(text):
        raise InvalidInput.field(field, f"must have 1 to {MAX_NAME_CHARACTERS} printable characters")
    return text
