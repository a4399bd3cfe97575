"""Reads the records of the log into entries; what cannot be read becomes a dead letter with its reason.

Everything in a record is untrusted: another program may write to the topics. Whatever is wrong with one entry sets
aside that entry alone, and with the frame of a record the whole record; nothing here raises for bad bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from attune.api.events.v1 import events_pb2
from attune.api.types.v1 import generations_pb2
from attune.domain.errors import InvalidInput
from attune.domain.feedback import AcceptedFeedback
from attune.domain.generations import checked_name
from attune.domain.ids import MAX_COMPLETIONS, canonical_uuid
from attune.domain.prompts import Prompt
from attune.feedback.join.rows import Entry, Place, SetAside, feedback_entry, generation_entry
from attune.platform.events.log import Record, Topic

Item = TypeVar("Item", bound=Message)
WHOLE_RECORD = -1
USER = (generations_pb2.PURPOSE_UNSPECIFIED, generations_pb2.PURPOSE_USER)
YEAR_10000_S = 253_402_300_800


class RolloutRecorded(InvalidInput):
    """A rollout stands on the log of generations: it must never become a prompt or an example."""


def generation_entries(record: Record) -> tuple[list[Entry], list[SetAside]]:
    """The generations of a record, and what is wrong with the rest."""
    return _entries(
        Topic.GENERATIONS, record, lambda value: events_pb2.GenerationBatch.FromString(value).generations, _generation
    )


def feedback_entries(record: Record) -> tuple[list[Entry], list[SetAside]]:
    """The events of a record, and what is wrong with the rest."""
    return _entries(Topic.FEEDBACK, record, lambda value: events_pb2.FeedbackBatch.FromString(value).events, _feedback)


def _entries(
    topic: Topic,
    record: Record,
    unpack: Callable[[bytes], Iterable[Item]],
    read: Callable[[Place, Item], Entry],
) -> tuple[list[Entry], list[SetAside]]:
    try:
        items = list(unpack(record.value))
    except DecodeError:
        place = place_of(record, WHOLE_RECORD)
        return [], [SetAside(topic, place, "RECORD_GARBLED", "is no batch of this topic", record.value)]
    entries: list[Entry] = []
    bad: list[SetAside] = []
    for index, item in enumerate(items):
        place = place_of(record, index)
        try:
            entries.append(read(place, item))
        except RolloutRecorded as error:
            bad.append(SetAside(topic, place, "ROLLOUT_RECORDED", error.message, item.SerializeToString()))
        except (ValueError, InvalidInput) as error:
            # ValueError: an enum or a number outside what the domain knows.
            detail = error.message if isinstance(error, InvalidInput) else "holds a value out of range"
            bad.append(SetAside(topic, place, "ENTRY_INVALID", detail, item.SerializeToString()))
    return entries, bad


def place_of(record: Record, index: int) -> Place:
    """Where an entry of the record stands."""
    return Place(round(record.append_time * 1_000_000), record.partition, record.offset, index)


def _generation(place: Place, item: generations_pb2.Generation) -> Entry:
    """What the join relies on is checked; tokens and sampling are the policy's and are not looked at."""
    item.DiscardUnknownFields()  # type: ignore[attr-defined]
    item.id = canonical_uuid(item.id, "id")
    if len(item.completions) > MAX_COMPLETIONS:
        raise InvalidInput.field("completions", f"must be at most {MAX_COMPLETIONS}")
    for i, completion in enumerate(item.completions):
        if completion.id != f"{item.id}/{i}":
            raise InvalidInput.field(f"completions[{i}].id", f"must be {item.id}/{i}")
    checked_name(item.app_id, "app_id")
    checked_name(item.revision, "revision")
    if item.subject_id:
        checked_name(item.subject_id, "subject_id")
    if item.purpose == generations_pb2.PURPOSE_ROLLOUT:
        raise RolloutRecorded("is a rollout; those are not recorded")
    if item.purpose not in USER:
        raise InvalidInput.field("purpose", "must be USER")
    return generation_entry(Topic.GENERATIONS, place, item, Prompt.from_proto(item.prompt))


def _feedback(place: Place, item: events_pb2.AcceptedFeedback) -> Entry:
    accepted = AcceptedFeedback.from_proto(item)
    for name, time_s in (("accept_time", accepted.accept_time), ("occurred_time", accepted.event.occurred_time)):
        if not 0 <= time_s < YEAR_10000_S:
            raise InvalidInput.field(name, "must lie between 1970 and 9999")
    return feedback_entry(Topic.FEEDBACK, place, accepted)
