"""Whose events a caller may bring: within one app, and for a browser's token one person and one generation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from attune.api.types.v1 import feedback_pb2
from attune.domain.errors import AttuneError, FieldViolation, InvalidInput, PermissionDenied
from attune.domain.feedback import Demonstration, FeedbackEvent


@dataclass(frozen=True)
class Caller:
    """Whose events may come: of `app_id`, and where set of one person and of one generation; empty is anybody's."""

    app_id: str = ""
    subject_id: str = ""
    generation_id: str = ""

    def complete(self, event: feedback_pb2.FeedbackEvent) -> None:
        """Fills in what the credential says and the event leaves out."""
        event.app_id = event.app_id or self.app_id
        event.subject_id = event.subject_id or self.subject_id

    def restrict(self, events: Iterable[feedback_pb2.FeedbackEvent], field: str) -> dict[int, AttuneError]:
        """Completes the events and tells, by index, why some go beyond the credential. `field` as for the intake."""
        if not self.app_id:
            return {}
        refused: dict[int, AttuneError] = {}
        for index, event in enumerate(events):
            self.complete(event)
            if (error := self.refusal(event, field.format(index))) is not None:
                refused[index] = error
        return refused

    def refusal(self, event: feedback_pb2.FeedbackEvent, field: str) -> PermissionDenied | None:
        """Why the event at `field` goes beyond the credential. Whether it holds at all is asked elsewhere."""
        for name, allowed in (("app_id", self.app_id), ("subject_id", self.subject_id)):
            if allowed and getattr(event, name) != allowed:
                return _beyond(f"{field}.{name}", f"must be {allowed}, whose credential this is")
        return self._refusal_of_generation(event, field) if self.generation_id else None

    def _refusal_of_generation(self, proto: feedback_pb2.FeedbackEvent, field: str) -> PermissionDenied | None:
        try:
            event = FeedbackEvent.from_proto(proto)
        except InvalidInput:
            return None
        if isinstance(event.feedback, Demonstration):
            return _beyond(f"{field}.demonstration", "takes an app key: a token is for judging")
        if event.generation_ids != (self.generation_id,):
            return _beyond(f"{field}.{event.feedback.kind}", f"must name completions of {self.generation_id} only")
        return None


ANYBODYS = Caller()


def _beyond(field: str, description: str) -> PermissionDenied:
    return PermissionDenied(f"{field}: {description}", violations=[FieldViolation(field, description)])
