"""Events as they are read from requests: validated, and already in the bytes that the log will keep.

An event that stands as Attune would write it is kept as it came; any other is read into the domain, which refuses it by
field or mends its spelling. Either way `wire` is what FeedbackEvent.to_proto gives, and nothing unknown is in it.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple, TypeVar

from google.protobuf.message import DecodeError, Message

from attune.api.types.v1 import feedback_pb2
from attune.domain.canonical import is_canonical
from attune.domain.errors import AttuneError, InvalidInput
from attune.domain.feedback import FeedbackEvent

YEAR_10000_S = 253_402_300_800
_ID_BYTES = 2 + 36
"""Tag, length and text of the event id, which stands first."""

M = TypeVar("M", bound=Message)


class ReceivedEvent(NamedTuple):
    """An event that holds every rule.

    `key` names it in its app: the 16 bytes of its id, then the app. `body_hash` is FeedbackEvent.body_hash.
    """

    event_id: str
    key: bytes
    kind: str
    wire: bytes
    body_hash: bytes


def parse(cls: type[M], raw: bytes) -> M:
    """The message, or InvalidInput: bytes that are none are the sender's fault."""
    try:
        return cls.FromString(raw)
    except DecodeError:
        raise InvalidInput(f"the request is no {cls.DESCRIPTOR.full_name}") from None


class RefusedEvent(NamedTuple):
    """An event that does not hold; `kind` is "none" where it says nothing."""

    kind: str
    error: AttuneError


def read_or_refuse(proto: feedback_pb2.FeedbackEvent, field: str, index: int) -> ReceivedEvent | RefusedEvent:
    """The event at `index` of a field such as "events[{}]", or why it is refused."""
    try:
        return read(proto, field, index)
    except InvalidInput as error:
        return RefusedEvent(proto.WhichOneof("feedback") or "none", error)


def read(proto: feedback_pb2.FeedbackEvent, field: str, index: int = 0) -> ReceivedEvent:
    """The event, or InvalidInput that names the field. Unknown fields of the proto are dropped."""
    proto.DiscardUnknownFields()  # type: ignore[attr-defined]  # every implementation has it, its stub does not
    if not is_canonical(proto):
        proto = _mended(proto, field.format(index))
    event_id, wire = proto.event_id, proto.SerializeToString(deterministic=True)
    return ReceivedEvent(
        event_id,
        bytes.fromhex(event_id.replace("-", "")) + proto.app_id.encode(),
        proto.WhichOneof("feedback"),
        wire,
        hashlib.sha256(wire[_ID_BYTES:]).digest(),
    )


def _mended(proto: feedback_pb2.FeedbackEvent, field: str) -> feedback_pb2.FeedbackEvent:
    """The event in its one spelling, or InvalidInput: whatever is accepted here can be written and read again."""
    event = FeedbackEvent.from_proto(proto, field)
    if not 0 <= event.occurred_time < YEAR_10000_S:
        raise InvalidInput.field(f"{field}.occurred_time", "must lie between 1970 and 9999")
    return event.to_proto()
