"""Values of the feedback topic, made of events that are bytes already.

A value is a FeedbackBatch. Its events are not built and serialised again: protobuf frames a message inside another as
tag, length, bytes, so that the bytes of each event are framed twice (AcceptedFeedback in FeedbackBatch) and joined.
What follows an event is the same for all of a commit that came in one trace, and is made once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import repeat

from google.protobuf.message import Message

from attune.api.events.v1 import events_pb2
from attune.domain.times import to_timestamp

MAX_RECORD_EVENTS = 1000
MAX_RECORD_BYTES = 512 * 1024
_LENGTH_DELIMITED = 2


UNTRACED = repeat("")


def records(events: Iterable[bytes], accept_time: float, traceparents: Iterable[str] = UNTRACED) -> Iterator[bytes]:
    """The serialised events as few values as the limits allow, in order, all accepted at one second; `traceparents`
    are those of the events."""
    tails = {"": _framed(_ACCEPT_TIME, to_timestamp(accept_time).SerializeToString())}
    parts: list[bytes] = []
    count = size = 0
    for event, traceparent in zip(events, traceparents, strict=False):
        if (tail := tails.get(traceparent)) is None:
            tail = tails[traceparent] = tails[""] + _framed(_TRACEPARENT, traceparent.encode())
        length = len(event) + len(tail)
        if count and (count >= MAX_RECORD_EVENTS or size + length > MAX_RECORD_BYTES):
            yield b"".join(parts)
            parts, count, size = [], 0, 0
        parts += (_header(len(event), len(tail)), event, tail)
        count, size = count + 1, size + length
    if parts:
        yield b"".join(parts)


@lru_cache(maxsize=4096)
def _header(event_bytes: int, tail_bytes: int) -> bytes:
    """What stands before an event of this length: the frame of AcceptedFeedback, then that of the event in it."""
    inner = _EVENT + _varint(event_bytes)
    return _EVENTS + _varint(len(inner) + event_bytes + tail_bytes) + inner


def _framed(tag: bytes, content: bytes) -> bytes:
    return tag + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _tag(message: type[Message], field: str) -> bytes:
    """The key of a field that holds a message or text."""
    return _varint(message.DESCRIPTOR.fields_by_name[field].number << 3 | _LENGTH_DELIMITED)


_EVENTS = _tag(events_pb2.FeedbackBatch, "events")
_EVENT = _tag(events_pb2.AcceptedFeedback, "event")
_ACCEPT_TIME = _tag(events_pb2.AcceptedFeedback, "accept_time")
_TRACEPARENT = _tag(events_pb2.AcceptedFeedback, "traceparent")
