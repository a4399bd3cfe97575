"""Feedback tokens: what a backend signs is what ingest reads, and nothing else is a token."""

from __future__ import annotations

import subprocess
import sys
import time

import jwt
import pytest
from attune.client.tokens import ALGORITHM, AUDIENCE, FeedbackToken, read_feedback_token, sign_feedback_token
from attune.domain.errors import InvalidInput, TokenExpired, Unauthenticated
from hypothesis import given
from hypothesis import strategies as st
from unit.domain.made import names, uuids

G = "01890a5d-ac96-774b-bcce-b302099a8057"
SECRET, OTHER = "s" * 32, "o" * 32
HOUR_S = 3600.0


def secret_of(app_id: str, key_id: str) -> str | None:
    return {("shop", "1"): SECRET, ("shop", "2"): OTHER, ("forum", "1"): OTHER}.get((app_id, key_id))


def read(token: str, max_lifetime_s: float = HOUR_S) -> FeedbackToken:
    return read_feedback_token(token, secret_of, max_lifetime_s)


def sign(claims: dict[str, object], secret: str = SECRET, **header: object) -> str:
    """A token of any claims, upon those of a good one; None leaves a claim out."""
    now = int(time.time())
    good = {"aud": AUDIENCE, "sub": "ann", "gen": G, "iat": now, "exp": now + 3500}
    chosen = {name: value for name, value in (good | claims).items() if value is not None}
    return jwt.encode(chosen, secret, ALGORITHM, headers={"kid": "shop/1"} | header)


@given(names, names, uuids)
def test_what_is_signed_is_read(app_id: str, subject_id: str, generation_id: str) -> None:
    token = sign_feedback_token(app_id, "1", SECRET, subject_id=subject_id, generation_id=generation_id)
    found = read_feedback_token(token, lambda app, key: SECRET if (app, key) == (app_id, "1") else None, HOUR_S)
    assert (found.app_id, found.subject_id, found.generation_id) == (app_id, subject_id, generation_id)
    assert 800 < found.expire_time - time.time() <= 900


def test_the_generation_comes_out_canonical() -> None:
    assert read(sign({"gen": G.upper()})).generation_id == G


def test_two_keys_hold_at_once() -> None:
    for key_id, secret in (("1", SECRET), ("2", OTHER)):
        assert read(sign_feedback_token("shop", key_id, secret, subject_id="ann", generation_id=G)).app_id == "shop"


@pytest.mark.parametrize(
    "arguments",
    [
        {"secret": "short"},
        {"key_id": "a/b"},
        {"key_id": ""},
        {"app_id": ""},
        {"subject_id": "\n"},
        {"generation_id": "7"},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_what_would_not_hold_is_not_signed(arguments: dict[str, str]) -> None:
    good = {"app_id": "shop", "key_id": "1", "secret": SECRET, "subject_id": "ann", "generation_id": G}
    with pytest.raises(InvalidInput):
        sign_feedback_token(**(good | arguments))


def test_a_token_expires() -> None:
    now = int(time.time())
    with pytest.raises(TokenExpired):
        read(sign({"iat": now - 100, "exp": now - 10}))


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (sign({}, OTHER), "Signature"),
        (sign({}, kid="shop/9"), "key"),
        (sign({}, kid="forum/1"), "Signature"),
        (sign({}, kid="shop"), "key"),
        (sign({}, OTHER, kid="forum/1/1"), "key"),
        (sign({"aud": "elsewhere"}), "Audience"),
        (sign({"aud": None}), "aud"),
        (sign({"exp": None}), "exp"),
        (sign({"iat": None}), "iat"),
        (sign({"gen": None}), "gen"),
        (sign({"sub": None}), "sub"),
        (sign({"sub": ""}), "sub"),
        (sign({"gen": "7"}), "gen"),
        (sign({"gen": ["x"]}), "gen"),
        (sign({"iat": 9_999_999_999, "exp": 9_999_999_999}), "iat"),
        (sign({"exp": "9999999999"}), "numbers"),
        (sign({"exp": 99_999_999_999}), "longer"),
        (jwt.encode({"sub": "ann"}, "", "none", headers={"kid": "shop/1"}), "alg"),
        (sign({})[:-2], ""),
        ("a.b.c", "no token"),
        ("nothing", "no token"),
        ("", "no token"),
    ],
    ids=range(22),
)
def test_what_does_not_hold_is_refused_with_the_reason(token: str, why: str) -> None:
    with pytest.raises(Unauthenticated, match=f"(?i){why}"):
        read(token)


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_anything_else_is_no_token(text: str) -> None:
    with pytest.raises(Unauthenticated):
        read(text)


def test_the_client_alone_does_not_need_pyjwt() -> None:
    code = "import sys; sys.modules['jwt'] = None; import attune.client"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
