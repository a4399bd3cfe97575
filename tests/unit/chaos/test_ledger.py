"""The ledger: what an answer means for an event, and which answers are wrong."""

from __future__ import annotations

from dataclasses import replace

from attune.client import FeedbackEvent
from chaos.ledger import Answer, Ledger, Outcome, Said
from feedback_samples import an_event

EVENT = an_event(1)
CONTRADICTION = replace(EVENT, source="another body")
TAKEN, AGAIN, CONFLICT = Answer(Outcome.TAKEN), Answer(Outcome.AGAIN), Answer(Outcome.CONFLICT)


def a_ledger(resent: list[FeedbackEvent] | None = None) -> Ledger:
    return Ledger(lambda event: CONTRADICTION, (resent if resent is not None else []).append)


def test_an_event_is_sent_until_it_is_acknowledged_and_then_once_more() -> None:
    resent: list[FeedbackEvent] = []
    ledger = a_ledger(resent)
    ledger.sent(EVENT)
    assert not ledger.answered("a door", EVENT, AGAIN)
    assert (ledger.acknowledged_ids, ledger.sent_again) == (0, 1)
    assert ledger.answered("a door", EVENT, TAKEN)
    assert ledger.answered("a door", EVENT, TAKEN)
    assert ledger.acknowledged == {Said.of(EVENT)}
    assert resent == [CONTRADICTION]


def test_both_bodies_of_one_id_may_be_acknowledged() -> None:
    ledger = a_ledger()
    for event in (EVENT, CONTRADICTION):
        ledger.sent(event)
        ledger.answered("a door", event, TAKEN)
    assert len(ledger.acknowledged) == 2
    assert ledger.acknowledged_ids == 1


def test_a_conflict_is_right_only_where_there_are_two_bodies() -> None:
    ledger = a_ledger()
    ledger.sent(EVENT)
    assert ledger.answered("a door", EVENT, CONFLICT)
    assert len(ledger.wrong) == 1
    ledger.sent(CONTRADICTION)
    assert ledger.answered("a door", CONTRADICTION, CONFLICT)
    assert len(ledger.wrong) == 1
    assert ledger.acknowledged == set()
