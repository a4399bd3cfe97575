"""Short-lived tokens: a backend makes one and hands it to a browser, which may then judge one generation and no more.

    from attune.client.tokens import sign_feedback_token
    token = sign_feedback_token("shop", "2026-11", secret, subject_id="ana", generation_id=generation.id)

A token is a JWT, signed with HS256, so a backend in any language can make one: the header's `kid` is
"<app>/<key id>", the claims are `aud` ("attune/feedback"), `sub` (the person), `gen` (the generation), `iat` and `exp`.
The key decides the app: who holds a key of one app cannot speak for another. Ingest knows the same secret under the
same key id; with two keys known at once a secret is exchanged without a break.

Needs PyJWT (`pip install 'attune[web]'`), which nothing else of the client does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt

from attune.domain.errors import InvalidInput, TokenExpired, Unauthenticated
from attune.domain.generations import checked_name
from attune.domain.ids import canonical_uuid

ALGORITHM = "HS256"
AUDIENCE = "attune/feedback"
CLAIMS = ("aud", "sub", "gen", "iat", "exp")
MIN_SECRET_BYTES = 32
LEEWAY_S = 5.0
"""How far the clocks of the backend and of ingest may be apart."""

SecretOf = Callable[[str, str], str | None]
"""The secret of an app's key id, if it is known."""


@dataclass(frozen=True)
class FeedbackToken:
    """What a token allows: one person's opinion, in one app, of one generation, until `expire_time` (seconds)."""

    app_id: str
    subject_id: str
    generation_id: str
    expire_time: float


def sign_feedback_token(
    app_id: str, key_id: str, secret: str, *, subject_id: str, generation_id: str, lifetime_s: float = 900.0
) -> str:
    """A new token. InvalidInput for a bad id, a key id with a slash, or a secret that is too short to protect it."""
    checked_name(app_id, "app_id")
    check_key(key_id, secret)
    now = time.time()
    claims = {
        "aud": AUDIENCE,
        "sub": checked_name(subject_id, "subject_id"),
        "gen": canonical_uuid(generation_id, "generation_id"),
        "iat": int(now),
        "exp": int(now + lifetime_s),
    }
    return jwt.encode(claims, secret, ALGORITHM, headers={"kid": f"{app_id}/{key_id}"})


def check_key(key_id: str, secret: str) -> None:
    """InvalidInput unless key id and secret can sign tokens."""
    if not checked_name(key_id, "key_id") or "/" in key_id:
        raise InvalidInput.field("key_id", "must not hold a slash")
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise InvalidInput.field("secret", f"must have at least {MIN_SECRET_BYTES} bytes")


def read_feedback_token(token: str, secret_of: SecretOf, max_lifetime_s: float) -> FeedbackToken:
    """What a token allows, once its signature, times and claims hold. TokenExpired, or Unauthenticated with what is
    wrong."""
    app_id, secret = _key_of(token, secret_of)
    try:
        claims = jwt.decode(
            token, secret, [ALGORITHM], audience=AUDIENCE, leeway=LEEWAY_S, options={"require": list(CLAIMS)}
        )
    except jwt.ExpiredSignatureError:
        raise TokenExpired("the token has expired; ask the backend for another") from None
    except (jwt.InvalidTokenError, OverflowError) as error:
        raise Unauthenticated(f"the token does not hold: {error}") from None
    return _token_of(app_id, claims, max_lifetime_s)


def _key_of(token: str, secret_of: SecretOf) -> tuple[str, str]:
    """The app of a token, by its still unchecked header, and the secret that its signature must match."""
    try:
        kid = jwt.get_unverified_header(token).get("kid", "")
    except (jwt.InvalidTokenError, UnicodeError):
        raise Unauthenticated("the credential is no token") from None
    app_id, _, key_id = kid.rpartition("/")
    secret = secret_of(app_id, key_id)
    if secret is None:
        raise Unauthenticated("the token is signed with a key that is not known here")
    return app_id, secret


def _token_of(app_id: str, claims: dict[str, Any], max_lifetime_s: float) -> FeedbackToken:
    if not all(isinstance(claims[name], int | float) for name in ("iat", "exp")):
        raise Unauthenticated("the token does not hold: iat and exp must be numbers")
    if claims["exp"] - claims["iat"] > max_lifetime_s:
        raise Unauthenticated(f"the token is made for longer than the {max_lifetime_s:g} s that are allowed here")
    try:
        subject_id, generation_id = checked_name(claims["sub"], "sub"), canonical_uuid(str(claims["gen"]), "gen")
    except InvalidInput as error:
        raise Unauthenticated(f"the token does not hold: {error.message}") from None
    return FeedbackToken(app_id, subject_id, generation_id, float(claims["exp"]))
