"""Who may say what: keys, tokens, the open door, and what the settings refuse."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from attune.api.types.v1 import feedback_pb2
from attune.client.tokens import sign_feedback_token
from attune.domain.errors import ConfigurationInvalid, PermissionDenied, Unauthenticated
from attune.domain.feedback import Comparison, Demonstration, Feedback, Rating
from attune.feedback.ingest.config import HttpSettings
from attune.feedback.ingest.web.credentials import Caller, Credentials, load_credentials
from feedback_samples import a_ranking, an_event, an_id, completion
from pydantic import SecretStr

KEY, NEXT, SECRET = "k" * 16, "n" * 16, "s" * 32
CREDENTIALS = Credentials({"shop": [KEY, NEXT], "forum": ["f" * 16]}, {"shop": {"1": SECRET}}, max_token_s=3600)
TOKEN = sign_feedback_token("shop", "1", SECRET, subject_id="ann", generation_id=an_id(1))
JUDGE = Caller("shop", "ann", an_id(1))


@pytest.mark.parametrize(
    ("authorization", "caller"),
    [
        (f"Bearer {KEY}", Caller("shop")),
        (f"bearer  {NEXT} ", Caller("shop")),
        (f"Bearer {'f' * 16}", Caller("forum")),
        (f"Bearer {TOKEN}", JUDGE),
    ],
    ids=["key", "next key", "other app", "token"],
)
def test_a_credential_says_who_calls(authorization: str, caller: Caller) -> None:
    assert CREDENTIALS.caller(authorization) == caller


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", f"Basic {KEY}", KEY, f"Bearer {KEY}x", "Bearer a.b.c", "Bearer \udcff"],
)
def test_without_a_credential_that_holds_nobody_calls(authorization: str | None) -> None:
    with pytest.raises(Unauthenticated):
        CREDENTIALS.caller(authorization)


def test_a_door_without_keys_is_open() -> None:
    credentials = Credentials({}, {}, max_token_s=60)
    assert credentials.is_open
    assert credentials.caller(None) == Caller()
    assert not CREDENTIALS.is_open


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


def test_credentials_come_from_settings_or_files(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    file.write_text(json.dumps({"shop": {"1": SECRET}}))
    settings = HttpSettings(app_keys=SecretStr(json.dumps({"shop": [KEY]})), token_keys_file=str(file))
    credentials = load_credentials(settings)
    assert credentials.caller(f"Bearer {KEY}") == Caller("shop")
    assert credentials.caller(f"Bearer {TOKEN}") == JUDGE


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"app_keys": SecretStr("k")}, "app_keys must be JSON"),
        ({"app_keys": SecretStr('{"shop": "' + KEY + '"}')}, "app_keys must be JSON"),
        ({"app_keys": SecretStr('{"shop": ["short"]}')}, "16 characters"),
        ({"token_keys": SecretStr('{"shop": {"1": "short"}}')}, "32 bytes"),
        ({"token_keys": SecretStr('{"shop": {"a/b": "' + SECRET + '"}}')}, "slash"),
        ({"token_keys_file": "/no/such/file"}, "cannot be read"),
        ({"host": "0.0.0.0"}, "not loopback"),
    ],
    ids=range(7),
)
def test_what_protects_nothing_is_refused_without_showing_it(settings: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=why) as raised:
        load_credentials(HttpSettings(**settings))
    assert "short" not in raised.value.message
    assert KEY not in raised.value.message


def test_an_open_door_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert load_credentials(HttpSettings()).is_open
    assert "no keys are set" in caplog.text
