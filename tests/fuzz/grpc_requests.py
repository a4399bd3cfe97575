"""Malformed requests over gRPC: raw bytes through a channel without serialisers, each with the statuses it may get.

What a message is, the protobuf parser of this process says, and what an event may be, the domain does: bytes that parse
into an event that holds are taken (or contradict an earlier one), and all others are INVALID_ARGUMENT.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import grpc
import grpc.aio
from attune.api.feedback.v1 import feedback_pb2
from attune.domain.errors import InvalidInput
from attune.domain.feedback import FeedbackEvent
from fuzz.mutations import damaged, noise
from fuzz.verdicts import Verdicts
from google.protobuf.message import DecodeError, Message

SERVICE = "/attune.api.feedback.v1.FeedbackService"
TAKEN = frozenset({"OK", "ALREADY_EXISTS"})
REFUSED = frozenset({"INVALID_ARGUMENT"})
TIMEOUT_S = 30.0
LARGEST_MESSAGE = 4 * 1024 * 1024


class Request(NamedTuple):
    """One call: its method, the bytes of its messages, and what may become of it."""

    damage: str
    method: str
    messages: tuple[bytes, ...]
    expected: frozenset[str]
    timeout_s: float | None = TIMEOUT_S
    compression: grpc.Compression | None = None


def requests(good: Sequence[bytes], strange: Iterator[bytes], chance: random.Random) -> Iterator[Request]:
    """Calls without end. `good` are serialised events that hold, `strange` ones whose fields are anything."""
    kinds: tuple[Callable[[], Request], ...] = (
        lambda: unary("damaged bytes", damaged(framed(chance.choice(good)), good, chance), chance),
        lambda: unary("damaged event", framed(damaged(chance.choice(good), good, chance)), chance),
        lambda: unary("strange fields", framed(next(strange)), chance),
        lambda: unary("noise", noise(chance), chance),
        lambda: stream(good, chance),
        lambda: misused(good, chance),
    )
    while True:
        yield chance.choices(kinds, weights=(30, 25, 20, 10, 10, 5))[0]()


def framed(event: bytes) -> bytes:
    """A request that holds the event as its field 1."""
    length, out = len(event), bytearray(b"\x0a")
    while length > 0x7F:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes(out) + bytes([length]) + event


def unary(damage: str, raw: bytes, chance: random.Random) -> Request:
    if chance.random() < 0.5:
        return Request(damage, "SubmitFeedback", (raw,), _of_submission(raw))
    return Request(damage, "IngestFeedback", (raw,), _of_batch(raw))


def _of_submission(raw: bytes) -> frozenset[str]:
    request = parsed(feedback_pb2.SubmitFeedbackRequest, raw)
    return TAKEN if request is not None and holds(request.event) else REFUSED


def _of_batch(raw: bytes) -> frozenset[str]:
    request = parsed(feedback_pb2.IngestFeedbackRequest, raw)
    return frozenset({"OK"}) if request is not None and 1 <= len(request.events) <= 1000 else REFUSED


def stream(good: Sequence[bytes], chance: random.Random) -> Request:
    """Some messages, one of them perhaps broken: the stream ends well or with INVALID_ARGUMENT."""
    messages = tuple(
        damaged(framed(chance.choice(good)), good, chance) if chance.random() < 0.5 else framed(chance.choice(good))
        for _ in range(chance.randint(1, 4))
    )
    is_good = all(_may_stream(raw) for raw in messages)
    return Request("stream", "StreamFeedback", messages, frozenset({"OK"}) if is_good else REFUSED)


def _may_stream(raw: bytes) -> bool:
    request = parsed(feedback_pb2.StreamFeedbackRequest, raw)
    return request is not None and not (request.events and request.HasField("event")) and len(request.events) <= 1000


def misused(good: Sequence[bytes], chance: random.Random) -> Request:
    """Calls that are wrong as calls."""
    raw = framed(chance.choice(good))
    return chance.choice(
        (
            Request("no deadline", "SubmitFeedback", (raw,), REFUSED, timeout_s=None),
            Request("no such method", "EraseFeedback", (raw,), frozenset({"UNIMPLEMENTED"})),
            Request("no message", "StreamFeedback", (), frozenset({"OK"})),
            Request("too large", "SubmitFeedback", (raw + bytes(LARGEST_MESSAGE),), frozenset({"RESOURCE_EXHAUSTED"})),
            Request("compressed", "SubmitFeedback", (raw,), TAKEN, compression=grpc.Compression.Gzip),
            Request("many events", "IngestFeedback", (raw * 1001,), REFUSED),
            Request("nothing", "IngestFeedback", (b"",), REFUSED),
            Request("two messages", "SubmitFeedback", (raw, raw), TAKEN),
            # gRPC's server never sees such a call begin; only the caller's deadline ends it.
            Request("no message to unary", "SubmitFeedback", (), frozenset({"DEADLINE_EXCEEDED"}), timeout_s=1.0),
        )
    )


def parsed(cls: type[Message], raw: bytes) -> Any:
    try:
        return cls.FromString(raw)
    except DecodeError:
        return None


def holds(proto: Any) -> bool:
    try:
        event = FeedbackEvent.from_proto(proto)
    except InvalidInput:
        return False
    return event.occurred_time >= 0


class Caller:
    """Makes calls. Those of none or several messages go through the blocking client: the other one hides the status
    of a call that ends while a message is being written."""

    def __init__(self, address: str, verdicts: Verdicts) -> None:
        self._channel, self._blocking = grpc.aio.insecure_channel(address), grpc.insecure_channel(address)
        self._verdicts = verdicts

    async def send(self, request: Request) -> None:
        """Makes a call and judges its status."""
        try:
            if request.method == "StreamFeedback" or len(request.messages) != 1:
                responses = await asyncio.to_thread(self._exchange, request)
            else:
                method = self._channel.unary_unary(f"{SERVICE}/{request.method}")
                responses = [await method(request.messages[0], **_options(request))]
            for raw in responses:
                self._verdicts.acknowledge(_acknowledged(request.method, raw))
            status = "OK"
        except grpc.RpcError as error:
            status = error.code().name
        self._verdicts.judge("grpc", request.damage, status, request.expected, request.messages)

    def _exchange(self, request: Request) -> list[bytes]:
        method = self._blocking.stream_stream(f"{SERVICE}/{request.method}")
        return list(method(iter(request.messages), **_options(request)))

    async def close(self) -> None:
        await self._channel.close()
        self._blocking.close()


def _options(request: Request) -> dict[str, Any]:
    return {"timeout": request.timeout_s, "compression": request.compression}


def _acknowledged(method: str, raw: bytes) -> Iterator[str]:
    """Ids of the receipts in a response; empty where there is none."""
    if method == "SubmitFeedback":
        yield feedback_pb2.SubmitFeedbackResponse.FromString(raw).receipt.event_id
        return
    cls = feedback_pb2.StreamFeedbackResponse if method == "StreamFeedback" else feedback_pb2.IngestFeedbackResponse
    response = cls.FromString(raw)
    results = [*response.results, response.result] if method == "StreamFeedback" else response.results
    yield from (result.receipt.event_id for result in results)
