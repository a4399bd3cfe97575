"""FeedbackControlService on the wire: committed rows out, erasure in. Database work runs in threads."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import grpc.aio

from attune.api.feedback.v1 import control_pb2, control_pb2_grpc
from attune.domain.errors import FeedbackUnknown, InvalidInput
from attune.domain.generations import checked_name
from attune.domain.ids import canonical_uuid
from attune.domain.times import to_timestamp
from attune.feedback.join.erasure import ErasureReport, erase_subject
from attune.feedback.join.lineage import revisions_after_or_none
from attune.feedback.join.reading import EventStatus, ExamplePage, Reader
from attune.feedback.join.store import Store
from attune.feedback.join.tail import Tail
from attune.platform.events.log import Topic
from attune.platform.registry.registry import Registry

DEFAULT_PAGE = 500
MAX_PAGE = 1000
NOTICE = (
    "The rows are deleted and stay out of every replay. Weights are not unlearned: the listed revisions had sampled "
    "these examples or descend from ones that had. The event log holds the person's words until log_empty_time."
)

logger = logging.getLogger(__name__)


class FeedbackControlServicer(control_pb2_grpc.FeedbackControlServiceServicer):
    """The control port of the join. `log_retention_s` is how long the event log keeps its records."""

    def __init__(
        self,
        store: Store,
        tail: Tail,
        registry: Registry | None,
        *,
        log_retention_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._tail, self._registry = store, tail, registry
        self._reader = Reader(store.engine)
        self._log_retention_s, self._clock = log_retention_s, clock

    async def GetFeedback(
        self, request: control_pb2.GetFeedbackRequest, context: grpc.aio.ServicerContext
    ) -> control_pb2.GetFeedbackResponse:
        event_id = canonical_uuid(request.event_id, "event_id")
        app_id = checked_name(request.app_id, "app_id")
        status = await asyncio.to_thread(self._reader.event, app_id, event_id)
        if status is None:
            raise FeedbackUnknown(f"the join has no event {event_id} of this app, yet", metadata={"event_id": event_id})
        return _event_response(status)

    async def EraseSubject(
        self, request: control_pb2.EraseSubjectRequest, context: grpc.aio.ServicerContext
    ) -> control_pb2.EraseSubjectResponse:
        app_id, subject_id = checked_name(request.app_id, "app_id"), checked_name(request.subject_id, "subject_id")
        report = await asyncio.to_thread(self._erase, app_id, subject_id)
        sequences = report.example_sequences
        revisions, excuse = await asyncio.to_thread(revisions_after_or_none, self._registry, sequences)
        return control_pb2.EraseSubjectResponse(
            examples_erased=len(sequences),
            events_erased=report.events,
            generations_erased=report.generations,
            log_empty_time=to_timestamp(self._clock() + self._log_retention_s),
            example_sequences=sequences,
            revisions=revisions,
            notice=f"{NOTICE} {excuse}".rstrip(),
        )

    async def ReadExamples(
        self, request: control_pb2.ReadExamplesRequest, context: grpc.aio.ServicerContext
    ) -> control_pb2.ReadExamplesResponse:
        size = _page_size(request.page_size)
        _check_from_zero(after_sequence=request.after_sequence, after_removal=request.after_removal)
        page = await asyncio.to_thread(self._reader.examples, request.after_sequence, size, request.after_removal)
        return _page_response(page)

    async def ReadPrompts(
        self, request: control_pb2.ReadPromptsRequest, context: grpc.aio.ServicerContext
    ) -> control_pb2.ReadPromptsResponse:
        size = _page_size(request.page_size)
        _check_from_zero(after_sequence=request.after_sequence)
        prompts = await asyncio.to_thread(self._reader.prompts, request.after_sequence, size)
        return control_pb2.ReadPromptsResponse(
            prompts=[
                control_pb2.UserPrompt(sequence=p.sequence, prompt=p.prompt.to_proto(), prompt_hash=p.prompt_hash)
                for p in prompts
            ],
            last_sequence=prompts[-1].sequence if prompts else request.after_sequence,
        )

    async def GetStatus(
        self, request: control_pb2.GetStatusRequest, context: grpc.aio.ServicerContext
    ) -> control_pb2.GetStatusResponse:
        return await asyncio.to_thread(self._status)

    def _erase(self, app_id: str, subject_id: str) -> ErasureReport:
        store = self._store
        erase_us = round(self._clock() * 1_000_000)
        report = erase_subject(store.engine, store.erased, store.limits, app_id, subject_id, erase_us)
        erased = (report.events, report.generations, len(report.example_sequences))
        logger.info("a person was erased: %d events, %d generations, %d examples", *erased)
        return report

    def _status(self) -> control_pb2.GetStatusResponse:
        offsets = self._reader.offsets()
        topics = [
            control_pb2.TopicProgress(
                topic=topic,
                partition=partition,
                offset=offset,
                lag_records=max(0, self._tail.end_offset(Topic(topic), partition) - offset),
            )
            for (topic, partition), offset in sorted(offsets.items())
        ]
        counts = self._reader.state_counts()
        return control_pb2.GetStatusResponse(
            states=[control_pb2.StateCount(state=int(s), events=n) for s, n in sorted(counts.items())],  # type: ignore[arg-type]
            topics=topics,
            end_sequence=self._reader.end_sequence(),
        )


def _page_size(asked: int) -> int:
    if asked > MAX_PAGE:
        raise InvalidInput.field("page_size", f"must be at most {MAX_PAGE}")
    return asked or DEFAULT_PAGE


def _check_from_zero(**numbers: int) -> None:
    for field, number in numbers.items():
        if number < 0:
            raise InvalidInput.field(field, "must not be negative")


def _event_response(status: EventStatus) -> control_pb2.GetFeedbackResponse:
    return control_pb2.GetFeedbackResponse(
        state=int(status.state),  # type: ignore[arg-type]
        reason=status.reason,
        event=status.event.to_proto() if status.event else None,
        accept_time=to_timestamp(status.accept_time) if status.accept_time else None,
        example_sequence=status.example_sequence,
    )


def _page_response(page: ExamplePage) -> control_pb2.ReadExamplesResponse:
    return control_pb2.ReadExamplesResponse(
        examples=page.examples,
        last_sequence=page.last_sequence,
        end_sequence=page.end_sequence,
        removals=[
            control_pb2.ExampleRemoval(id=r.id, sequence=r.sequence, reason=int(r.reason))  # type: ignore[arg-type]
            for r in page.removals
        ],
        last_removal=page.last_removal,
    )
