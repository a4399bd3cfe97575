"""Feedback events of one size, as they travel: an app's four kinds in turn, each with an id of its own.

Ratings and comparisons reach the size by long names, rankings by nine completions, demonstrations by their text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attune.api.types.v1 import feedback_pb2
from attune.domain.ids import uuid7

GENERATION = "01890a5d-ac96-774b-bcce-b302099a8057"
ID_BYTES = 36
RANKED = 9


def completion(index: int) -> str:
    return f"{GENERATION}/{index}"


def rating(event: feedback_pb2.FeedbackEvent) -> None:
    event.rating.completion_id, event.rating.value = completion(0), 1.0


def comparison(event: feedback_pb2.FeedbackEvent) -> None:
    event.comparison.chosen_completion_id, event.comparison.rejected_completion_id = completion(0), completion(1)


def ranking(event: feedback_pb2.FeedbackEvent) -> None:
    for index in range(RANKED):
        event.ranking.tiers.add().completion_ids.append(completion(index))


def demonstration(event: feedback_pb2.FeedbackEvent) -> None:
    event.demonstration.completion_id = completion(0)
    event.demonstration.text = "It left our warehouse this morning and should be with you on Thursday. "


KINDS: tuple[Callable[[feedback_pb2.FeedbackEvent], None], ...] = (rating, comparison, ranking, demonstration)


def event_of(kind: Callable[[feedback_pb2.FeedbackEvent], None], size: int) -> feedback_pb2.FeedbackEvent:
    """An event of exactly `size` serialised bytes; ValueError if the kind cannot have it."""
    event = feedback_pb2.FeedbackEvent(event_id=GENERATION, app_id="support", subject_id="user-000001")
    event.occurred_time.seconds, event.occurred_time.nanos = 1_700_000_000, 123_456_000
    kind(event)
    if kind is demonstration:
        event.demonstration.text += "." * (size - event.ByteSize())
    while (short := size - event.ByteSize()) > 0:
        if len(event.subject_id) < 200:
            event.subject_id += "u" * min(short, 200 - len(event.subject_id))
        elif len(event.source) < 200:
            event.source += "s" * max(1, min(short - 2, 200 - len(event.source)))
        else:
            break
    while event.ByteSize() > size:  # a length that took a second byte
        event.subject_id = event.subject_id[:-1]
    if event.ByteSize() != size:
        raise ValueError(f"{kind.__name__} cannot be {size} bytes long")
    return event


class Events:
    """Framed events without end: as field 1, which is how SubmitFeedback and IngestFeedback hold them, or as field 2,
    the `events` of a stream."""

    def __init__(self, size: int) -> None:
        self._header = varint(size) + b"\x0a" + varint(ID_BYTES)
        bodies = [event_of(kind, size).SerializeToString(deterministic=True)[2 + ID_BYTES :] for kind in KINDS]
        self._bodies = bodies
        self._sender = uuid7()[:-12].encode()
        self._number = 0

    def take(self, count: int) -> bytes:
        """The next `count` events, one after the other."""
        return b"".join(self._framed(b"\x0a" + self._header, count))

    def take_for_stream(self, count: int) -> bytes:
        """As `take`, for a StreamFeedbackRequest."""
        return b"".join(self._framed(b"\x12" + self._header, count))

    def _framed(self, header: bytes, count: int) -> Iterator[bytes]:
        for number in range(self._number, self._number + count):
            yield header
            yield b"%s%012x" % (self._sender, number)
            yield self._bodies[number % len(self._bodies)]
        self._number += count


def varint(number: int) -> bytes:
    """A number as protobuf writes lengths."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
