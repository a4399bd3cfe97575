"""The nouns of the join: what the log brings, the rows the database keeps, and the pure functions between them.

Times are microseconds of the log's clock. Nothing here does I/O; `matching` plays the entries, `store` keeps the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from attune.api.types.v1 import examples_pb2, feedback_pb2
from attune.domain.feedback import AcceptedFeedback, FeedbackEvent, FeedbackState
from attune.domain.generations import Generation
from attune.domain.ids import uuid_bytes

DAY_US = 86_400_000_000


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


@dataclass(frozen=True, order=True)
class Place:
    """Where an entry stands in its topic, compared by log time (microseconds) first: the order of acceptance."""

    log_us: int
    partition: int
    offset: int
    index: int


@dataclass(frozen=True)
class Limits:
    """How long what is waited for and kept, microseconds of log time; prompts in number."""

    pending_ttl_us: int
    generation_retention_us: int
    prompt_capacity: int


@dataclass(frozen=True)
class GenerationRow:
    """What examples need of a generation. `content` is an Example proto of prompt and completions alone."""

    key: Key
    subject_id: str
    content: bytes
    prompt_hash: bytes
    completions: int
    record_us: int
    is_erased: bool = False


@dataclass
class FeedbackRow:
    """An event as the database keeps it; `body` is the FeedbackEvent proto, empty once erased."""

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


@dataclass(frozen=True)
class ExampleRow:
    """A training example; `content` is an Example proto without its sequence."""

    sequence: int
    key: Key
    subjects: frozenset[str]
    content: bytes
    accept_us: int
    generation_us: int


@dataclass(frozen=True)
class PromptRow:
    """A live prompt of the reservoir."""

    sequence: int
    prompt_hash: bytes
    prompt: bytes
    app_id: str
    subject_id: str


@dataclass(frozen=True)
class ConflictRow:
    """A later event that used the id of an earlier one for another body."""

    topic: str
    place: Place
    key: Key
    subject_id: str
    body_hash: bytes


@dataclass(frozen=True)
class SetAside:
    """An entry that cannot be used: it goes to the dead letters with its reason."""

    topic: str
    place: Place
    reason: str
    detail: str
    value: bytes


@dataclass(frozen=True)
class GenerationEntry:
    """A generation of the log."""

    topic: str
    place: Place
    generation: Generation


@dataclass(frozen=True)
class FeedbackEntry:
    """An accepted event of the log."""

    topic: str
    place: Place
    accepted: AcceptedFeedback


Entry = GenerationEntry | FeedbackEntry


def day_of(log_us: int) -> int:
    """Days since the epoch, the partition of the tables that expire."""
    return log_us // DAY_US


def is_in_reach(record_us: int, event_us: int, limits: Limits) -> bool:
    """Whether a generation recorded at one time of the log counts for an event accepted at another."""
    return event_us - limits.generation_retention_us <= record_us <= event_us + limits.pending_ttl_us


def generation_row(generation: Generation, record_us: int) -> GenerationRow:
    """The row of a generation: what examples need, no tokens."""
    content = examples_pb2.Example(prompt=generation.prompt.to_proto())
    for completion in generation.completions:
        revision = completion.spans[0].revision if completion.spans else generation.revision
        content.completions.add(id=completion.id, text=completion.text, revision=revision)
    return GenerationRow(
        key=Key.of(generation.id, generation.app_id),
        subject_id=generation.subject_id,
        content=content.SerializeToString(deterministic=True),
        prompt_hash=bytes.fromhex(generation.prompt.hash),
        completions=len(generation.completions),
        record_us=record_us,
    )


def tombstone(row: GenerationRow) -> GenerationRow:
    """What stays of an erased person's generation: that it was one."""
    return GenerationRow(row.key, "", b"", b"", 0, row.record_us, is_erased=True)


def feedback_row(entry: FeedbackEntry) -> FeedbackRow:
    """The row of an event before it is judged."""
    event = entry.accepted.event
    return FeedbackRow(
        key=Key.of(event.event_id, event.app_id),
        subject_id=event.subject_id,
        body_hash=event.body_hash,
        opinion_key=event.opinion_key,
        place=entry.place,
        accept_us=round(entry.accepted.accept_time * 1_000_000),
        body=event.to_proto().SerializeToString(deterministic=True),
        state=FeedbackState.ACCEPTED,
    )


def erased_row(entry: FeedbackEntry) -> FeedbackRow:
    """What stays of an erased person's event: that it was one."""
    key = Key.of(entry.accepted.event.event_id, entry.accepted.event.app_id)
    return FeedbackRow(key, "", b"", b"", entry.place, 0, b"", FeedbackState.ERASED, "SUBJECT_ERASED")


def prompt_row(sequence: int, generation: Generation) -> PromptRow:
    """The prompt of a generation as the reservoir keeps it."""
    return PromptRow(
        sequence=sequence,
        prompt_hash=bytes.fromhex(generation.prompt.hash),
        prompt=generation.prompt.to_proto().SerializeToString(deterministic=True),
        app_id=generation.app_id,
        subject_id=generation.subject_id,
    )


def named_generations(event: FeedbackEvent) -> list[Key]:
    """The generations that an event names, each once, in order of first naming."""
    return [Key.of(generation, event.app_id) for generation in event.generation_ids]


def stored_event(row: FeedbackRow) -> FeedbackEvent:
    """The event of a row, from the bytes the join itself wrote."""
    return FeedbackEvent.from_proto(feedback_pb2.FeedbackEvent.FromString(row.body))


def disagreement(event: FeedbackEvent, generations: dict[Key, GenerationRow]) -> str:
    """Why the named completions make no example; empty when they do."""
    for completion in event.feedback.completion_ids:
        generation, _, index = completion.partition("/")
        if int(index) >= generations[Key.of(generation, event.app_id)].completions:
            return "COMPLETION_UNKNOWN"
    if len({g.prompt_hash for g in generations.values()}) > 1:
        return "PROMPTS_DIFFER"
    return ""


def example_row(
    sequence: int, row: FeedbackRow, event: FeedbackEvent, generations: dict[Key, GenerationRow]
) -> ExampleRow:
    """The example of an event. Prompt: that of the generation named first; its time: that of the last recorded."""
    contents = {key: examples_pb2.Example.FromString(g.content) for key, g in generations.items()}
    first = next(iter(contents.values()))
    example = examples_pb2.Example(
        event_id=event.event_id, app_id=event.app_id, subject_id=event.subject_id, prompt=first.prompt
    )
    for completion in event.feedback.completion_ids:
        generation, _, index = completion.partition("/")
        content = contents[Key.of(generation, event.app_id)]
        example.completions.append(content.completions[int(index)])
    example.feedback.CopyFrom(event.to_proto())
    generation_us = max(g.record_us for g in generations.values())
    example.accept_time.FromMicroseconds(row.place.log_us)
    example.generation_time.FromMicroseconds(generation_us)
    subjects = {event.subject_id, *(g.subject_id for g in generations.values() if g.subject_id)}
    return ExampleRow(
        sequence=sequence,
        key=row.key,
        subjects=frozenset(subjects),
        content=example.SerializeToString(deterministic=True),
        accept_us=row.place.log_us,
        generation_us=generation_us,
    )
