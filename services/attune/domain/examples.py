"""Training examples: a feedback event beside the completions it names. A pure function of the two."""

from __future__ import annotations

from dataclasses import dataclass

from attune.api.types.v1 import examples_pb2
from attune.domain.feedback import FeedbackEvent
from attune.domain.prompts import Prompt
from attune.domain.times import from_timestamp, to_timestamp


@dataclass(frozen=True)
class ExampleCompletion:
    """A completion of an example: its id, its text, the full name of the revision that wrote it or began it, and those
    that went on with it, in order."""

    id: str
    text: str
    revision: str
    later_revisions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Example:
    """One row of training data; times in seconds of the log's clock; traceparents of what was traced."""

    sequence: int
    prompt: Prompt
    completions: tuple[ExampleCompletion, ...]
    event: FeedbackEvent
    accept_time: float
    generation_time: float
    feedback_traceparent: str = ""
    generation_traceparents: tuple[str, ...] = ()

    @property
    def traceparents(self) -> tuple[str, ...]:
        """Of the event and its generations, those that were traced."""
        return tuple(filter(None, (self.feedback_traceparent, *self.generation_traceparents)))

    def text_of(self, completion_id: str) -> str:
        """The text of a named completion. KeyError if the example does not hold it."""
        for completion in self.completions:
            if completion.id == completion_id:
                return completion.text
        raise KeyError(completion_id)

    def to_proto(self) -> examples_pb2.Example:
        return examples_pb2.Example(
            sequence=self.sequence,
            event_id=self.event.event_id,
            app_id=self.event.app_id,
            subject_id=self.event.subject_id,
            prompt=self.prompt.to_proto(),
            completions=[
                examples_pb2.ExampleCompletion(
                    id=c.id, text=c.text, revision=c.revision, later_revisions=c.later_revisions
                )
                for c in self.completions
            ],
            feedback=self.event.to_proto(),
            accept_time=to_timestamp(self.accept_time),
            generation_time=to_timestamp(self.generation_time),
            feedback_traceparent=self.feedback_traceparent,
            generation_traceparents=self.generation_traceparents,
        )

    @classmethod
    def from_proto(cls, proto: examples_pb2.Example) -> Example:
        return cls(
            sequence=proto.sequence,
            prompt=Prompt.from_proto(proto.prompt),
            completions=tuple(
                ExampleCompletion(c.id, c.text, c.revision, tuple(c.later_revisions)) for c in proto.completions
            ),
            event=FeedbackEvent.from_proto(proto.feedback),
            accept_time=from_timestamp(proto.accept_time),
            generation_time=from_timestamp(proto.generation_time),
            feedback_traceparent=proto.feedback_traceparent,
            generation_traceparents=tuple(proto.generation_traceparents),
        )
