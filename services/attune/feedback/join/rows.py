"""The nouns of the join: what the log brings, the rows the database keeps, and the pure functions between them.

Times are microseconds of the log's clock. Nothing here does I/O; `matching` plays the entries, `store` keeps the rows.
A batch makes many thousands of these, so they are tuples and slots, and are changed only where it is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from attune.api.events.v1 import events_pb2
from attune.api.types.v1 import examples_pb2, feedback_pb2, generations_pb2
from attune.domain.feedback import AcceptedFeedback, FeedbackEvent, FeedbackState, body_hash_of
from attune.domain.ids import uuid_bytes
from attune.domain.prompts import Prompt
from attune.domain.traces import checked_traceparent

MINUTE_US = 60_000_000
DAY_US = 86_400_000_000
RUN_EXAMPLES = 65_536
ID_LENGTH = 16


class Removal(IntEnum):
    """Why an example no longer counts; values as on the wire."""

    SUPERSEDED = 1
    ERASED = 2


class Key(NamedTuple):
    """A generation or an event: its id (16 bytes) in its app."""

    id: bytes
    app_id: str

    @classmethod
    def of(cls, text: str, app_id: str) -> Key:
        """The key of an id in its textual form."""
        return cls(uuid_bytes(text), app_id)


class Place(NamedTuple):
    """Where an entry stands in its topic, compared by log time (microseconds) first: the order of acceptance."""

    log_us: int
    partition: int
    offset: int
    index: int  # type: ignore[assignment]  # a field, where a tuple has a method of that name


@dataclass(frozen=True)
class Limits:
    """How long what is waited for and kept, microseconds of log time; prompts in number."""

    pending_ttl_us: int
    generation_retention_us: int
    prompt_capacity: int


class GenerationRow(NamedTuple):
    """What examples need of a generation. `content` is an Example proto of prompt and completions alone."""

    key: Key
    subject_id: str
    content: bytes
    prompt_hash: bytes
    completions: int
    record_us: int
    is_erased: bool = False


@dataclass(slots=True)
class FeedbackRow:
    """An event; `body` is the FeedbackEvent proto, empty once erased. Matching changes the row.

    In the database the body of an example's event stands in the example alone, and so does its traceparent.
    `opinion_key` begins with the id of a generation, so that what was said of one time stands together in the index.
    """

    key: Key
    subject_id: str
    body_hash: bytes
    opinion_key: bytes
    place: Place
    accept_us: int
    body: bytes
    state: FeedbackState
    reason: str = ""
    example_sequence: int = 0
    traceparent: str = ""

    @property
    def is_mentioned(self) -> bool:
        """Whether the generations it names are noted: it waits for them, or its words may be erased with them.

        Of an example, `example_subjects` tells the same.
        """
        return self.state is FeedbackState.PENDING or (bool(self.body) and self.state is not FeedbackState.JOINED)


class ExampleRow(NamedTuple):
    """A training example; `content` is an Example proto without its sequence."""

    sequence: int
    key: Key
    subjects: frozenset[str]
    content: bytes
    accept_us: int
    generation_us: int


class PromptRow(NamedTuple):
    """A live prompt of the reservoir."""

    sequence: int
    prompt_hash: bytes
    prompt: bytes
    app_id: str
    subject_id: str


class ConflictRow(NamedTuple):
    """A later event that used the id of an earlier one for another body."""

    topic: str
    place: Place
    key: Key
    subject_id: str
    body_hash: bytes


class SetAside(NamedTuple):
    """An entry that cannot be used: it goes to the dead letters with its reason."""

    topic: str
    place: Place
    reason: str
    detail: str
    value: bytes


class Said(NamedTuple):
    """What an event says: its message, the completions it names, and the generations that wrote them, each once."""

    event: feedback_pb2.FeedbackEvent
    completions: tuple[tuple[Key, int], ...]
    generations: tuple[Key, ...]


class GenerationEntry(NamedTuple):
    """A generation of the log and its row."""

    topic: str
    place: Place
    row: GenerationRow
    generation: generations_pb2.Generation


class FeedbackEntry(NamedTuple):
    """An accepted event of the log, and what its row will hold."""

    topic: str
    place: Place
    key: Key
    subject_id: str
    body_hash: bytes
    opinion_key: bytes
    accept_us: int
    body: bytes
    said: Said
    traceparent: str


Entry = GenerationEntry | FeedbackEntry


def day_of(log_us: int) -> int:
    """Days since the epoch, by which what expires is deleted."""
    return log_us // DAY_US


def minute_of(log_us: int) -> int:
    """Minutes since the epoch, by which generations are indexed and deleted."""
    return log_us // MINUTE_US


def run_of(sequence: int) -> int:
    """The run of examples that one belongs to: their people are indexed run by run."""
    return sequence // RUN_EXAMPLES


def is_in_reach(record_us: int, event_us: int, limits: Limits) -> bool:
    """Whether a generation recorded at one time of the log counts for an event accepted at another."""
    return event_us - limits.generation_retention_us <= record_us <= event_us + limits.pending_ttl_us


def generation_entry(
    topic: str, place: Place, generation: generations_pb2.Generation, prompt: Prompt
) -> GenerationEntry:
    """The entry of a generation that was checked; `prompt` is its prompt. The row holds no tokens."""
    content = examples_pb2.Example(prompt=generation.prompt)
    if traceparent := checked_traceparent(generation.traceparent):
        content.generation_traceparents.append(traceparent)
    for completion in generation.completions:
        revision, *later = [span.revision for span in completion.spans] or [generation.revision]
        content.completions.add(id=completion.id, text=completion.text, revision=revision, later_revisions=later)
    row = GenerationRow(
        key=Key.of(generation.id, generation.app_id),
        subject_id=generation.subject_id,
        content=content.SerializeToString(deterministic=True),
        prompt_hash=bytes.fromhex(prompt.hash),
        completions=len(generation.completions),
        record_us=place.log_us,
    )
    return GenerationEntry(topic, place, row, generation)


def is_repeated(row: GenerationRow, before: GenerationRow) -> bool:
    """Whether a generation stands in the log already, in whatever trace it was written the second time."""
    return row.subject_id == before.subject_id and _untraced(row.content) == _untraced(before.content)


def _untraced(content: bytes) -> bytes:
    example = examples_pb2.Example.FromString(content)
    example.ClearField("generation_traceparents")
    return example.SerializeToString(deterministic=True)


def tombstone(row: GenerationRow) -> GenerationRow:
    """What stays of an erased person's generation: that it was one."""
    return GenerationRow(row.key, "", b"", b"", 0, row.record_us, is_erased=True)


def feedback_entry(topic: str, place: Place, accepted: AcceptedFeedback) -> FeedbackEntry:
    """The entry of an event."""
    event, said = accepted.event, said_by(accepted.event)
    body = said.event.SerializeToString(deterministic=True)
    return FeedbackEntry(
        topic=topic,
        place=place,
        key=Key.of(event.event_id, event.app_id),
        subject_id=event.subject_id,
        body_hash=body_hash_of(body),
        opinion_key=min(said.generations).id + event.opinion_key[:ID_LENGTH],
        accept_us=round(accepted.accept_time * 1_000_000),
        body=body,
        said=said,
        traceparent=accepted.traceparent,
    )


def feedback_row(entry: FeedbackEntry) -> FeedbackRow:
    """The row of an event before it is judged."""
    _, place, key, subject_id, body_hash, opinion_key, accept_us, body, _, traceparent = entry
    state = FeedbackState.ACCEPTED
    return FeedbackRow(key, subject_id, body_hash, opinion_key, place, accept_us, body, state, traceparent=traceparent)


def said_by(event: FeedbackEvent) -> Said:
    """What an event says."""
    completions = []
    for name in event.feedback.completion_ids:
        generation, _, index = name.partition("/")
        completions.append((Key.of(generation, event.app_id), int(index)))
    return Said(event.to_proto(), tuple(completions), tuple(dict.fromkeys(key for key, _ in completions)))


def body_in(content: bytes) -> bytes:
    """The body of the event that an example was made of."""
    return examples_pb2.Example.FromString(content).feedback.SerializeToString(deterministic=True)


def stored(row: FeedbackRow) -> Said:
    """What the event of a row says, from the bytes the join itself wrote."""
    return said_by(FeedbackEvent.from_proto(feedback_pb2.FeedbackEvent.FromString(row.body)))


def as_accepted(said: Said, accept_us: int) -> bytes:
    """An event as it stands in a record of the log."""
    accept_time = _timestamp(accept_us)
    return events_pb2.AcceptedFeedback(event=said.event, accept_time=accept_time).SerializeToString()


def erased_row(entry: FeedbackEntry) -> FeedbackRow:
    """What stays of an erased person's event: that it was one."""
    return FeedbackRow(entry.key, "", b"", b"", entry.place, 0, b"", FeedbackState.ERASED, "SUBJECT_ERASED")


def prompt_row(sequence: int, entry: GenerationEntry) -> PromptRow:
    """The prompt of a generation as the reservoir keeps it."""
    return PromptRow(
        sequence=sequence,
        prompt_hash=entry.row.prompt_hash,
        prompt=entry.generation.prompt.SerializeToString(deterministic=True),
        app_id=entry.row.key.app_id,
        subject_id=entry.row.subject_id,
    )


def disagreement(said: Said, generations: dict[Key, GenerationRow]) -> str:
    """Why the named completions make no example; empty when they do."""
    if any(index >= generations[key].completions for key, index in said.completions):
        return "COMPLETION_UNKNOWN"
    if len({g.prompt_hash for g in generations.values()}) > 1:
        return "PROMPTS_DIFFER"
    return ""


def example_row(sequence: int, row: FeedbackRow, said: Said, generations: dict[Key, GenerationRow]) -> ExampleRow:
    """The example of an event. Prompt: that of the generation named first; its time: that of the last recorded."""
    contents = {key: examples_pb2.Example.FromString(g.content) for key, g in generations.items()}
    generation_us = max(g.record_us for g in generations.values())
    example = examples_pb2.Example(
        event_id=said.event.event_id,
        app_id=row.key.app_id,
        subject_id=row.subject_id,
        prompt=contents[said.generations[0]].prompt,
        completions=[contents[key].completions[index] for key, index in said.completions],
        feedback=said.event,
        accept_time=_timestamp(row.place.log_us),
        generation_time=_timestamp(generation_us),
        feedback_traceparent=row.traceparent,
        generation_traceparents=[t for content in contents.values() for t in content.generation_traceparents],
    )
    return ExampleRow(
        sequence=sequence,
        key=row.key,
        subjects=frozenset((row.subject_id, *(g.subject_id for g in generations.values() if g.subject_id))),
        content=example.SerializeToString(deterministic=True),
        accept_us=row.place.log_us,
        generation_us=generation_us,
    )


def _timestamp(log_us: int) -> Timestamp:
    return Timestamp(seconds=log_us // 1_000_000, nanos=log_us % 1_000_000 * 1000)
