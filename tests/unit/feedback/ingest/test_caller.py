"""What a caller may bring: events of its app, and with a token one person's opinion of one generation."""

from __future__ import annotations

import pytest
from attune.api.types.v1 import feedback_pb2
from attune.domain.errors import PermissionDenied
from attune.domain.feedback import Comparison, Demonstration, Feedback, Rating
from attune.feedback.ingest.caller import ANYBODYS, Caller
from feedback_samples import a_ranking, an_event, an_id, completion

JUDGE = Caller("shop", "ann", an_id(1))


def proto(feedback: Feedback | None = None, **changes: str) -> feedback_pb2.FeedbackEvent:
    event = an_event(1, feedback).to_proto()
    for name, value in changes.items():
        setattr(event, name, value)
    return event


@pytest.mark.parametrize(
    ("caller", "event", "field"),
    [
        (Caller(), proto(app_id="any", subject_id="any"), None),
        (Caller("shop"), proto(), None),
        (Caller("shop"), proto(subject_id="bob"), None),
        (Caller("shop"), proto(app_id="forum"), "event.app_id"),
        (Caller("shop"), proto(app_id=""), "event.app_id"),
        (JUDGE, proto(), None),
        (JUDGE, proto(Comparison(completion(1), completion(1, 1))), None),
        (JUDGE, proto(a_ranking(completion(1), completion(1, 1))), None),
        (JUDGE, proto(app_id="forum"), "event.app_id"),
        (JUDGE, proto(subject_id="bob"), "event.subject_id"),
        (JUDGE, proto(Rating(completion(2), 1.0)), "event.rating"),
        (JUDGE, proto(Comparison(completion(1), completion(2))), "event.comparison"),
        (JUDGE, proto(a_ranking(completion(1), completion(2))), "event.ranking"),
        (JUDGE, proto(Demonstration(completion(1), "better")), "event.demonstration"),
        (JUDGE, proto(Rating(completion(1).upper(), 1.0)), None),
        (JUDGE, proto(Rating("no completion", 1.0)), None),
    ],
    ids=range(16),
)
def test_an_event_stays_within_the_credential(
    caller: Caller, event: feedback_pb2.FeedbackEvent, field: str | None
) -> None:
    refusal = caller.refusal(event, "event")
    if field is None:
        assert refusal is None
    else:
        assert isinstance(refusal, PermissionDenied)
        assert [v.field for v in refusal.violations] == [field]


def test_what_the_credential_says_need_not_be_said_again() -> None:
    event = proto(app_id="", subject_id="")
    JUDGE.complete(event)
    assert (event.app_id, event.subject_id) == ("shop", "ann")
    other = proto(app_id="forum", subject_id="bob")
    JUDGE.complete(other)
    assert (other.app_id, other.subject_id) == ("forum", "bob")


def test_a_message_is_restricted_event_by_event() -> None:
    events = [proto(app_id=""), proto(app_id="forum"), proto()]
    refused = Caller("shop").restrict(events, "events[{}]")
    assert [(index, [v.field for v in error.violations]) for index, error in refused.items()] == [
        (1, ["events[1].app_id"])
    ]
    assert events[0].app_id == "shop"


def test_where_no_key_is_asked_for_nothing_is_restricted() -> None:
    events = [proto(app_id=""), proto(app_id="forum")]
    assert ANYBODYS.restrict(events, "events[{}]") == {}
    assert events[0].app_id == ""
