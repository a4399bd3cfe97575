"""Every error Attune raises on purpose, and the one table that says how each crosses the wire.

A class here has a gRPC status and a reason (UPPER_SNAKE, sent as google.rpc.ErrorInfo). The server reads the table
forward (attune.platform.rpc.interceptors), the client backward (attune.client.errors). Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

ERROR_DOMAIN = "attune"


@dataclass(frozen=True)
class FieldViolation:
    """One field of a request that does not hold: its path in the message, and what to send instead."""

    field: str
    description: str


class AttuneError(Exception):
    """Base of every deliberate error. `status` is the name of a gRPC status code, `reason` its ErrorInfo reason."""

    status: ClassVar[str] = "INTERNAL"
    reason: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after_s = retry_after_s


class InvalidInput(AttuneError):
    """The request or file is malformed; `violations` name the fields. Sending it again unchanged cannot succeed."""

    status, reason = "INVALID_ARGUMENT", "INVALID_INPUT"

    @classmethod
    def field(cls, field: str, description: str) -> InvalidInput:
        """The error of one bad field."""
        return cls(f"{field}: {description}", violations=[FieldViolation(field, description)])


class DeadlineRequired(AttuneError):
    """The call came without a deadline."""

    status, reason = "INVALID_ARGUMENT", "DEADLINE_REQUIRED"


class PromptTooLong(AttuneError):
    """Prompt and requested tokens do not fit the model's context."""

    status, reason = "INVALID_ARGUMENT", "PROMPT_TOO_LONG"


class Unauthenticated(AttuneError):
    """The call brings no credential, or one that does not hold here; the message says which."""

    status, reason = "UNAUTHENTICATED", "UNAUTHENTICATED"


class TokenExpired(AttuneError):
    """The token held once; its backend makes another."""

    status, reason = "UNAUTHENTICATED", "TOKEN_EXPIRED"


class PermissionDenied(AttuneError):
    """The caller is known and may not do this; `violations` name the fields that go beyond what it may."""

    status, reason = "PERMISSION_DENIED", "PERMISSION_DENIED"


class RevisionUnknown(AttuneError):
    """No such revision or alias in the registry."""

    status, reason = "NOT_FOUND", "REVISION_UNKNOWN"


class RevisionNotLoaded(AttuneError):
    """The revision exists but this server does not hold it; preload it, or pin one that GetStatus lists."""

    status, reason = "FAILED_PRECONDITION", "REVISION_NOT_LOADED"


class NoRevision(AttuneError):
    """The server has no weights yet: nothing has been published under its name."""

    status, reason = "UNAVAILABLE", "NO_REVISION"


class CheckpointRefused(AttuneError):
    """A model folder that cannot be used for a reason which has no row of its own below; the message says which."""

    status, reason = "FAILED_PRECONDITION", "CHECKPOINT_REFUSED"


class CheckpointTruncated(CheckpointRefused):
    """A file of weights is cut short, or is no safetensors file at all."""

    reason = "CHECKPOINT_TRUNCATED"


class CheckpointMisshapen(CheckpointRefused):
    """Tensors are missing, unexpected, or of another shape than the model's configuration says."""

    reason = "CHECKPOINT_MISSHAPEN"


class CheckpointNotFinite(CheckpointRefused):
    """Weights hold an infinity or NaN, or what the model computes does."""

    reason = "CHECKPOINT_NOT_FINITE"


class CheckpointPickled(CheckpointRefused):
    """The weights are pickled, and reading a pickle would run what is in it."""

    reason = "CHECKPOINT_PICKLED"


class TokenizerDiffers(CheckpointRefused):
    """The tokenizer is not the one in use, so that the same ids would mean other text."""

    reason = "TOKENIZER_DIFFERS"


class EngineUnavailable(AttuneError):
    """What computes for this server is away, such as Triton; wait `retry_after_s` and try again."""

    status, reason = "UNAVAILABLE", "ENGINE_UNAVAILABLE"


class GenerationIdReused(AttuneError):
    """The caller chose a generation id that the app has already used."""

    status, reason = "ALREADY_EXISTS", "GENERATION_ID_REUSED"


class QueueFull(AttuneError):
    """The server is at its limit; wait `retry_after_s` and try again."""

    status, reason = "RESOURCE_EXHAUSTED", "QUEUE_FULL"


class DeadlineUnattainable(AttuneError):
    """The answer would come too late for the call's deadline, by how fast the server is now; nothing was begun."""

    status, reason = "RESOURCE_EXHAUSTED", "DEADLINE_UNATTAINABLE"


class Paused(AttuneError):
    """The part was paused by an operator."""

    status, reason = "UNAVAILABLE", "PAUSED"


class FeedbackConflict(AttuneError):
    """The event id was used before with another body."""

    status, reason = "ALREADY_EXISTS", "FEEDBACK_CONFLICT"


class FeedbackUnknown(AttuneError):
    """The join has no event of that id (yet)."""

    status, reason = "NOT_FOUND", "FEEDBACK_UNKNOWN"


class EventLogUnavailable(AttuneError):
    """The event log cannot store right now (disk full, broker away); nothing was acknowledged."""

    status, reason = "UNAVAILABLE", "EVENT_LOG_UNAVAILABLE"


class TopicHasWriter(AttuneError):
    """Another process writes this topic of the embedded event log; stop it, or let it do the writing."""

    status, reason = "FAILED_PRECONDITION", "TOPIC_HAS_WRITER"


class TopicChanged(AttuneError):
    """The topic has other partitions than when its reader started; a reader that starts now reads all of them."""

    status, reason = "FAILED_PRECONDITION", "TOPIC_CHANGED"


class OffsetOutOfRange(AttuneError):
    """The topic no longer holds the offset to read from, or never did: records were lost to this consumer."""

    status, reason = "OUT_OF_RANGE", "OFFSET_OUT_OF_RANGE"

    @classmethod
    def at(cls, topic: str, partition: int, offset: int, first: int, end: int) -> OffsetOutOfRange:
        """The error of one read; its metadata holds what the partition retains."""
        return cls(
            f"{topic}/{partition} holds offsets {first} to {end} (exclusive), not {offset}",
            metadata={"topic": topic, "partition": str(partition), "first_offset": str(first), "end_offset": str(end)},
        )


class OffsetConflict(AttuneError):
    """Another consumer moved the stored offset: this one is a zombie and its work was not committed."""

    status, reason = "ABORTED", "OFFSET_CONFLICT"


class EpochSuperseded(AttuneError):
    """A newer trainer holds a later epoch; the deposed one may not move aliases or control servers."""

    status, reason = "FAILED_PRECONDITION", "EPOCH_SUPERSEDED"


class LeaseLost(AttuneError):
    """Another process leads now, or this one could not say in time that it still does; it ends, and may ask again."""

    status, reason = "ABORTED", "LEASE_LOST"


class AlreadyPublished(AttuneError):
    """The revision number or alias file exists with other content."""

    status, reason = "ALREADY_EXISTS", "ALREADY_PUBLISHED"


class RegistryCorrupt(AttuneError):
    """A manifest or alias file in the registry cannot be read or does not match its hashes."""

    status, reason = "DATA_LOSS", "REGISTRY_CORRUPT"


class RegistryUnavailable(AttuneError):
    """The object store of the registry cannot be reached, or refuses; what is live serves on."""

    status, reason = "UNAVAILABLE", "REGISTRY_UNAVAILABLE"


class TrainingStopped(AttuneError):
    """Training stopped to protect the policy: a non-finite number or the KL ceiling; the last good revision stays."""

    status, reason = "FAILED_PRECONDITION", "TRAINING_STOPPED"


class ConfigurationInvalid(AttuneError):
    """A setting is unknown or out of range."""

    status, reason = "FAILED_PRECONDITION", "CONFIGURATION_INVALID"


class AddressInUse(AttuneError):
    """Another process listens where this one should; stop it, or choose another port."""

    status, reason = "FAILED_PRECONDITION", "ADDRESS_IN_USE"


class ServerUnavailable(AttuneError):
    """Client side: the server could not be reached."""

    status, reason = "UNAVAILABLE", "SERVER_UNAVAILABLE"


class DeadlineExceeded(AttuneError):
    """Client side: the deadline passed before the answer came."""

    status, reason = "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"


def _subclasses(cls: type[AttuneError]) -> list[type[AttuneError]]:
    return [cls, *(found for child in cls.__subclasses__() for found in _subclasses(child))]


BY_REASON: dict[str, type[AttuneError]] = {error.reason: error for error in _subclasses(AttuneError)}
