"""FeedbackService on the wire: events are read into the domain, handed to the acceptor, and its receipts written back.

An event that does not hold is refused by itself: SubmitFeedback raises, the other two answer with its status.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import Future

import grpc.aio

from attune.api.feedback.v1 import feedback_pb2, feedback_pb2_grpc
from attune.api.types.v1 import feedback_pb2 as types_pb2
from attune.domain.errors import AttuneError, EventLogUnavailable, FeedbackConflict, InvalidInput, QueueFull
from attune.domain.feedback import FeedbackEvent
from attune.domain.status import to_status
from attune.domain.times import to_timestamp
from attune.feedback.ingest.acceptor import Acceptor, Receipt
from attune.feedback.ingest.metrics import IngestMetrics

MAX_EVENTS = 1000
STREAM_WINDOW = 256
YEAR_10000_S = 253_402_300_800
Submitted = tuple[float, Future[Receipt] | AttuneError]
OUTCOMES: dict[type[AttuneError], str] = {
    InvalidInput: "invalid",
    FeedbackConflict: "conflict",
    QueueFull: "queue_full",
    EventLogUnavailable: "log_unavailable",
}


class FeedbackServicer(feedback_pb2_grpc.FeedbackServiceServicer):
    """The app port of ingest. Errors rise; the interceptor turns them into statuses."""

    def __init__(self, acceptor: Acceptor, metrics: IngestMetrics) -> None:
        self._acceptor, self._metrics = acceptor, metrics

    async def SubmitFeedback(
        self, request: feedback_pb2.SubmitFeedbackRequest, context: grpc.aio.ServicerContext
    ) -> feedback_pb2.SubmitFeedbackResponse:
        outcome = await self._settled(request.event, self._submit(request.event, "event"))
        if isinstance(outcome, AttuneError):
            raise outcome
        return feedback_pb2.SubmitFeedbackResponse(receipt=_receipt(outcome))

    async def IngestFeedback(
        self, request: feedback_pb2.IngestFeedbackRequest, context: grpc.aio.ServicerContext
    ) -> feedback_pb2.IngestFeedbackResponse:
        if not 1 <= len(request.events) <= MAX_EVENTS:
            raise InvalidInput.field("events", f"must be 1 to {MAX_EVENTS} events")
        # All are queued before the first is awaited, so that one call is one write.
        submitted = [self._submit(event, f"events[{i}]") for i, event in enumerate(request.events)]
        results = [
            _result(event, await self._settled(event, outcome))
            for event, outcome in zip(request.events, submitted, strict=True)
        ]
        return feedback_pb2.IngestFeedbackResponse(results=results)

    async def StreamFeedback(
        self,
        request_iterator: AsyncIterator[feedback_pb2.StreamFeedbackRequest],
        context: grpc.aio.ServicerContext,
    ) -> AsyncIterator[feedback_pb2.StreamFeedbackResponse]:
        """Up to STREAM_WINDOW events wait at once; beyond that the stream is not read, which slows its sender."""
        queue: asyncio.Queue[tuple[types_pb2.FeedbackEvent, Submitted] | None] = asyncio.Queue()
        room = asyncio.Semaphore(STREAM_WINDOW)

        async def read() -> None:
            try:
                async for request in request_iterator:
                    await room.acquire()
                    queue.put_nowait((request.event, self._submit(request.event, "event")))
            finally:
                queue.put_nowait(None)

        reader = asyncio.create_task(read())
        try:
            while (item := await queue.get()) is not None:
                event, submitted = item
                outcome = await self._settled(event, submitted)
                room.release()
                yield feedback_pb2.StreamFeedbackResponse(result=_result(event, outcome))
            await reader
        finally:
            reader.cancel()

    def _submit(self, proto: types_pb2.FeedbackEvent, field: str) -> Submitted:
        """The event in the queue, or why it is not, and when it came."""
        started = time.monotonic()
        try:
            return started, self._acceptor.submit(read_event(proto, field))
        except AttuneError as error:
            return started, error

    async def _settled(self, proto: types_pb2.FeedbackEvent, submitted: Submitted) -> Receipt | AttuneError:
        """What became of an event; counted here, once."""
        started, future = submitted
        outcome = future if isinstance(future, AttuneError) else await _awaited(future)
        self._count(proto.WhichOneof("feedback") or "none", outcome, time.monotonic() - started)
        return outcome

    def _count(self, kind: str, outcome: Receipt | AttuneError, duration_s: float) -> None:
        if isinstance(outcome, AttuneError):
            self._metrics.events.labels(kind, OUTCOMES.get(type(outcome), "failed")).inc()
            if isinstance(outcome, FeedbackConflict):
                self._metrics.conflicts.labels("ingest").inc()
            return
        self._metrics.events.labels(kind, "repeated" if outcome.repeated_event else "accepted").inc()
        self._metrics.ack_duration.observe(duration_s)
        if outcome.repeated_event:
            self._metrics.repeated.inc()


def read_event(proto: types_pb2.FeedbackEvent, field: str) -> FeedbackEvent:
    """The event, or InvalidInput: whatever is accepted here can be written and read again."""
    event = FeedbackEvent.from_proto(proto, field)
    if not 0 <= event.occurred_time < YEAR_10000_S:
        raise InvalidInput.field(f"{field}.occurred_time", "must lie between 1970 and 9999")
    return event


async def _awaited(future: Future[Receipt]) -> Receipt | AttuneError:
    try:
        return await asyncio.wrap_future(future)
    except AttuneError as error:
        return error


def _receipt(receipt: Receipt) -> feedback_pb2.FeedbackReceipt:
    return feedback_pb2.FeedbackReceipt(
        event_id=receipt.event_id,
        accept_time=to_timestamp(receipt.accept_time),
        repeated_event=receipt.repeated_event,
    )


def _result(proto: types_pb2.FeedbackEvent, outcome: Receipt | AttuneError) -> feedback_pb2.FeedbackResult:
    result = feedback_pb2.FeedbackResult(event_id=proto.event_id)
    if isinstance(outcome, AttuneError):
        result.status.CopyFrom(to_status(outcome))
    else:
        result.receipt.CopyFrom(_receipt(outcome))
        result.status.code = 0
    return result
