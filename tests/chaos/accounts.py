"""The accounts: what was acknowledged, held against the topic, the join's tables, and what a trainer read of them.

Pure: `Evidence` comes from wherever, and every way to lose an event or to count it twice has a name.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from attune.domain.feedback import FeedbackState
from chaos.ledger import Said

VISIBLE = frozenset(
    {FeedbackState.PENDING, FeedbackState.JOINED, FeedbackState.SUPERSEDED, FeedbackState.CONFLICT},
)
"""States that an event of this traffic may end in: nobody is erased, and nothing is old enough to expire."""


class EventRow(NamedTuple):
    """An event in the join's table."""

    said: Said
    opinion_key: bytes
    state: int
    example_sequence: int


class Counted(NamedTuple):
    """An example: its number and the event that it was made of."""

    sequence: int
    event_id: bytes


@dataclass(frozen=True)
class Evidence:
    """What was found after the join had read everything.

    `read` is what a trainer was given, in order, and `taken_back` the numbers that it was told to forget.
    `unanswerable` are events whose generation was never written.
    """

    acknowledged: Collection[Said]
    on_topic: Collection[Said]
    events: Collection[EventRow]
    conflicts: Collection[Said]
    examples: Collection[Counted]
    read: Collection[Counted]
    taken_back: Collection[int]
    unanswerable: Collection[bytes]


Faults = Mapping[str, set[bytes]]
"""Ids of events by what is wrong with them."""


def lost(evidence: Evidence) -> Faults:
    """Acknowledged events that are not on the topic, and events on the topic that are in no visible state."""
    on_topic = set(evidence.on_topic)
    known = {row.said for row in evidence.events}.union(evidence.conflicts)
    examples, read = set(evidence.examples), set(evidence.read)
    joined = [row for row in evidence.events if row.state == FeedbackState.JOINED]
    waiting = {row.said.event_id for row in evidence.events if row.state == FeedbackState.PENDING}
    return {
        "acknowledged and not on the topic": _ids(set(evidence.acknowledged) - on_topic),
        "on the topic and unknown to the join": _ids(on_topic - known),
        "in no visible state": _ids(row.said for row in evidence.events if row.state not in VISIBLE),
        "waiting for a generation that is there": waiting.difference(evidence.unanswerable),
        "joined without an example": _ids(row.said for row in joined if _example_of(row) not in examples),
        "an example that no trainer read": {example.event_id for example in examples - read},
    }


def counted_twice(evidence: Evidence) -> Faults:
    """Events that count more than once, or still count after a later opinion replaced them."""
    joined = [row for row in evidence.events if row.state == FeedbackState.JOINED]
    wanted = {_example_of(row) for row in joined}
    forgotten = set(evidence.taken_back)
    standing = {example for example in evidence.read if example.sequence not in forgotten}
    return {
        "two rows of one event": _repeated(row.said.event_id for row in evidence.events),
        "two examples of one event": _repeated(example.event_id for example in evidence.examples),
        "an example of an event that does not count": {e.event_id for e in set(evidence.examples) - wanted},
        "two opinions of one person": _of_one_opinion(joined),
        "read twice by a trainer": _repeated(example.event_id for example in evidence.read),
        "read by a trainer and not taken back": {e.event_id for e in standing.difference(evidence.examples)},
    }


def number(faults: Faults) -> int:
    """Distinct events with a fault."""
    return len(set().union(*faults.values()))


def _example_of(row: EventRow) -> Counted:
    return Counted(row.example_sequence, row.said.event_id)


def _ids(said: Iterable[Said]) -> set[bytes]:
    return {one.event_id for one in said}


def _repeated(ids: Iterable[bytes]) -> set[bytes]:
    return {event_id for event_id, times in Counter(ids).items() if times > 1}


def _of_one_opinion(joined: Iterable[EventRow]) -> set[bytes]:
    holders: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for row in joined:
        holders[row.opinion_key].append(row.said.event_id)
    return {event_id for ids in holders.values() if len(ids) > 1 for event_id in ids}
