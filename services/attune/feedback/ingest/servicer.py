"""FeedbackService on the wire: messages in, receipts and statuses out; the intake does the rest.

The methods take and give serialised messages. Bytes that are no message are InvalidInput that way, where gRPC's own
deserialisation would make them an internal error. A caller with a key speaks for the key's app, and need not name it.
An event that does not hold, or is another app's, is refused by itself: SubmitFeedback raises, the other two answer with
its status.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import grpc
import grpc.aio

from attune.api.feedback.v1 import feedback_pb2
from attune.domain.errors import AttuneError, InvalidInput
from attune.feedback.ingest.answers import Answers
from attune.feedback.ingest.caller import Caller
from attune.feedback.ingest.intake import MAX_EVENTS, Intake, Protos, Taken
from attune.feedback.ingest.reading import parse
from attune.feedback.ingest.stream import FeedbackStream
from attune.platform.deadline import remaining_s
from attune.platform.rpc.interceptors import caller

SERVICE = feedback_pb2.DESCRIPTOR.services_by_name["FeedbackService"].full_name


class FeedbackServicer:
    """The app port of ingest. Errors rise; the interceptor turns them into statuses."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._streams: set[FeedbackStream] = set()

    def register(self, server: grpc.aio.Server) -> None:
        """Adds the methods to a server, without the (de)serialisers that generated code would add."""
        handlers = {
            "SubmitFeedback": grpc.unary_unary_rpc_method_handler(self.SubmitFeedback),
            "IngestFeedback": grpc.unary_unary_rpc_method_handler(self.IngestFeedback),
            "StreamFeedback": grpc.stream_stream_rpc_method_handler(self.StreamFeedback),
        }
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])

    def drain(self) -> None:
        """Ends streams once what they sent is answered, for a server that is going down; calls end by themselves."""
        for stream in self._streams:
            stream.drain()

    async def SubmitFeedback(self, raw: bytes, context: grpc.aio.ServicerContext) -> bytes:
        request = parse(feedback_pb2.SubmitFeedbackRequest, raw)
        taken = self._begin([request.event], "event")
        await self._intake.wait(taken, remaining_s(math.inf))
        (outcome,) = self._intake.finish(taken)
        if isinstance(outcome, AttuneError):
            raise outcome
        response = feedback_pb2.SubmitFeedbackResponse()
        Answers().receipt(response.receipt, outcome)
        return response.SerializeToString()

    async def IngestFeedback(self, raw: bytes, context: grpc.aio.ServicerContext) -> bytes:
        request = parse(feedback_pb2.IngestFeedbackRequest, raw)
        if not 1 <= len(request.events) <= MAX_EVENTS:
            raise InvalidInput.field("events", f"must be 1 to {MAX_EVENTS} events")
        taken = self._begin(request.events, "events[{}]")
        await self._intake.wait(taken, remaining_s(math.inf))
        response, answers = feedback_pb2.IngestFeedbackResponse(), Answers()
        for event, outcome in zip(request.events, self._intake.finish(taken), strict=True):
            answers.result(response.results.add(), event, outcome)
        return response.SerializeToString()

    async def StreamFeedback(
        self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        stream = FeedbackStream(self._intake, requests, Caller(caller().name))
        self._streams.add(stream)
        try:
            async for response in stream.responses():
                yield response
        finally:
            self._streams.discard(stream)

    def _begin(self, events: Protos, field: str) -> Taken:
        return self._intake.begin(events, field, Caller(caller().name).restrict(events, field))
