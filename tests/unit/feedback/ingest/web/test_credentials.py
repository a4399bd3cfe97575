"""Who may say what: keys, tokens, the open door, and what the settings refuse."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from attune.client.tokens import sign_feedback_token
from attune.domain.errors import ConfigurationInvalid, PermissionDenied, Unauthenticated
from attune.feedback.ingest.caller import Caller
from attune.feedback.ingest.config import HttpSettings
from attune.feedback.ingest.web.credentials import Credentials, load_credentials
from attune.platform.access.keys import KeyStore, new_key, write_keys
from feedback_samples import an_id
from pydantic import SecretStr

SECRET = "s" * 32
KEYS = {app: new_key(app, ["feedback", "generate"]) for app in ("shop", "forum")}
WRITER, WRITER_KEPT = new_key("shop", ["generate"])
TOKEN = sign_feedback_token("shop", "1", SECRET, subject_id="ann", generation_id=an_id(1))
JUDGE = Caller("shop", "ann", an_id(1))


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    write_keys(tmp_path / "keys.json", [WRITER_KEPT, *(kept for _, kept in KEYS.values())])
    return KeyStore(tmp_path / "keys.json")


@pytest.fixture
def credentials(store: KeyStore) -> Credentials:
    return Credentials(store, {"shop": {"1": SECRET}}, max_token_s=3600)


@pytest.mark.parametrize(
    ("authorization", "caller"),
    [
        (f"Bearer {KEYS['shop'][0]}", Caller("shop")),
        (f"bearer  {KEYS['forum'][0]} ", Caller("forum")),
        (f"Bearer {TOKEN}", JUDGE),
    ],
    ids=["key", "other app", "token"],
)
def test_a_credential_says_who_calls(credentials: Credentials, authorization: str, caller: Caller) -> None:
    assert credentials.caller(authorization) == caller


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, f"Bearer {KEYS['shop'][0]}x", "Bearer a.b.c",
     "Bearer \udcff"],
    ids=range(9),
)  # fmt: skip
def test_without_a_credential_that_holds_nobody_calls(credentials: Credentials, authorization: str | None) -> None:
    with pytest.raises(Unauthenticated):
        credentials.caller(authorization)


def test_a_key_for_something_else_brings_no_feedback(credentials: Credentials) -> None:
    with pytest.raises(PermissionDenied, match="scope feedback"):
        credentials.caller(f"Bearer {WRITER}")


def test_a_door_without_keys_is_open(store: KeyStore) -> None:
    credentials = Credentials(KeyStore(), {}, max_token_s=60)
    assert credentials.is_open
    assert credentials.caller(None) == Caller()
    assert not Credentials(store, {}, max_token_s=60).is_open


def test_tokens_without_keys_close_it() -> None:
    credentials = Credentials(KeyStore(), {"shop": {"1": SECRET}}, max_token_s=3600)
    assert credentials.caller(f"Bearer {TOKEN}") == JUDGE
    with pytest.raises(Unauthenticated):
        credentials.caller(None)


def test_token_keys_come_from_settings_or_a_file(tmp_path: Path, store: KeyStore) -> None:
    file, text = tmp_path / "tokens.json", json.dumps({"shop": {"1": SECRET}})
    file.write_text(text)
    for settings in (HttpSettings(token_keys=SecretStr(text)), HttpSettings(token_keys_file=str(file))):
        credentials = load_credentials(settings, store)
        assert credentials.caller(f"Bearer {KEYS['shop'][0]}") == Caller("shop")
        assert credentials.caller(f"Bearer {TOKEN}") == JUDGE


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"token_keys": SecretStr("short")}, "token_keys must be JSON"),
        ({"token_keys": SecretStr('{"shop": "short"}')}, "token_keys must be JSON"),
        ({"token_keys": SecretStr('{"shop": {"1": "short"}}')}, "32 bytes"),
        ({"token_keys": SecretStr('{"shop": {"a/b": "' + SECRET + '"}}')}, "slash"),
        ({"token_keys_file": "/no/such/file"}, "cannot be read"),
        ({"host": "0.0.0.0"}, "not loopback"),
    ],
    ids=range(6),
)
def test_what_protects_nothing_is_refused_without_showing_it(settings: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=why) as raised:
        load_credentials(HttpSettings(**settings), KeyStore())
    assert "short" not in raised.value.message
    assert SECRET not in raised.value.message


def test_an_open_door_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert load_credentials(HttpSettings(), KeyStore()).is_open
    assert "no keys are set" in caplog.text
