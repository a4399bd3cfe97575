"""The accounts find nothing where nothing is wrong, and every way to lose an event or to count it twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from attune.domain.feedback import FeedbackState
from chaos.accounts import Counted, EventRow, Evidence, counted_twice, lost, number
from chaos.ledger import Said

JOINED, OUTDONE, WAITING, CONTRADICTED = (bytes([n]) * 16 for n in range(4))
OTHER_BODY = b"b" * 32


def said(event_id: bytes) -> Said:
    return Said(event_id, b"a" * 32)


def row(event_id: bytes, state: FeedbackState, sequence: int = 0, opinion: bytes = b"") -> EventRow:
    return EventRow(said(event_id), opinion or event_id, state, sequence)


EVENTS = (
    row(JOINED, FeedbackState.JOINED, 2),
    row(OUTDONE, FeedbackState.SUPERSEDED, 1, opinion=JOINED),
    row(WAITING, FeedbackState.PENDING),
    row(CONTRADICTED, FeedbackState.JOINED, 3),
)
SOUND = Evidence(
    acknowledged=[*(r.said for r in EVENTS), Said(CONTRADICTED, OTHER_BODY)],
    # An event whose answer was lost stands on the topic twice, and that is no fault.
    on_topic=[*(r.said for r in EVENTS), said(JOINED), Said(CONTRADICTED, OTHER_BODY)],
    events=EVENTS,
    conflicts=[Said(CONTRADICTED, OTHER_BODY)],
    examples=[Counted(2, JOINED), Counted(3, CONTRADICTED)],
    read=[Counted(1, OUTDONE), Counted(2, JOINED), Counted(3, CONTRADICTED)],
    taken_back=[1],
    unanswerable=[WAITING],
)

Change = Callable[[Evidence], Evidence]


def without(event_id: bytes) -> tuple[EventRow, ...]:
    return tuple(one for one in EVENTS if one.said.event_id != event_id)


LOST: dict[str, tuple[Change, bytes]] = {
    "acknowledged and not on the topic": (
        lambda e: replace(e, on_topic=[s for s in e.on_topic if s.body_hash != OTHER_BODY]),
        CONTRADICTED,
    ),
    "on the topic and unknown to the join": (lambda e: replace(e, events=without(WAITING)), WAITING),
    "in no visible state": (
        lambda e: replace(e, events=[*without(WAITING), row(WAITING, FeedbackState.EXPIRED)]),
        WAITING,
    ),
    "waiting for a generation that is there": (lambda e: replace(e, unanswerable=[]), WAITING),
    "joined without an example": (lambda e: replace(e, examples=[Counted(3, CONTRADICTED)]), JOINED),
    "an example that no trainer read": (
        lambda e: replace(e, read=[Counted(1, OUTDONE), Counted(3, CONTRADICTED)]),
        JOINED,
    ),
}
TWICE: dict[str, tuple[Change, bytes]] = {
    "two rows of one event": (
        lambda e: replace(e, events=[*e.events, row(WAITING, FeedbackState.PENDING)]),
        WAITING,
    ),
    "two examples of one event": (lambda e: replace(e, examples=[*e.examples, Counted(4, JOINED)]), JOINED),
    "an example of an event that does not count": (
        lambda e: replace(e, examples=[*e.examples, Counted(1, OUTDONE)]),
        OUTDONE,
    ),
    "two opinions of one person": (
        lambda e: replace(e, events=[*without(OUTDONE), row(OUTDONE, FeedbackState.JOINED, 1, opinion=JOINED)]),
        OUTDONE,
    ),
    "read twice by a trainer": (lambda e: replace(e, read=[*e.read, Counted(4, JOINED)]), JOINED),
    "read by a trainer and not taken back": (lambda e: replace(e, taken_back=[]), OUTDONE),
}


def test_nothing_is_wrong_with_sound_evidence() -> None:
    assert (number(lost(SOUND)), number(counted_twice(SOUND))) == (0, 0)


@pytest.mark.parametrize("fault", LOST)
def test_a_lost_event_is_found(fault: str) -> None:
    change, event_id = LOST[fault]
    found = lost(change(SOUND))
    assert event_id in found[fault]
    assert number(found) == 1


@pytest.mark.parametrize("fault", TWICE)
def test_an_event_that_counts_twice_is_found(fault: str) -> None:
    change, event_id = TWICE[fault]
    found = counted_twice(change(SOUND))
    assert event_id in found[fault]
    assert number(found) >= 1


def test_every_fault_has_its_test() -> None:
    assert (LOST.keys(), TWICE.keys()) == (lost(SOUND).keys(), counted_twice(SOUND).keys())
