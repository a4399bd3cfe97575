"""Who calls over HTTP, and what they may say.

An app's backend calls with one of the app's keys and may say everything within its app. A browser calls with a token
(attune.client.tokens) and may say what one person thinks of one generation: a rating, a comparison or a ranking.
Both come as `Authorization: Bearer …`. Secrets are JSON, from the environment or a file:

    app keys     {"shop": ["<key>", "<its successor>"]}
    token keys   {"shop": {"2026-11": "<secret>"}}

Without any of them a door on loopback is open to all, and any other refuses to start.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr, TypeAdapter, ValidationError

from attune.api.types.v1 import feedback_pb2
from attune.client.tokens import check_key, read_feedback_token
from attune.domain.errors import ConfigurationInvalid, FieldViolation, InvalidInput, PermissionDenied, Unauthenticated
from attune.domain.feedback import Demonstration, FeedbackEvent
from attune.feedback.ingest.config import HttpSettings
from attune.platform.config import LOOPBACK

MIN_KEY_CHARACTERS = 16
AppKeys = Mapping[str, Sequence[str]]
TokenKeys = Mapping[str, Mapping[str, str]]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Caller:
    """Whose events may come: of `app_id`, and where set of one person and of one generation; empty is anybody's."""

    app_id: str = ""
    subject_id: str = ""
    generation_id: str = ""

    def complete(self, event: feedback_pb2.FeedbackEvent) -> None:
        """Fills in what the credential says and the event leaves out."""
        event.app_id = event.app_id or self.app_id
        event.subject_id = event.subject_id or self.subject_id

    def refusal(self, event: feedback_pb2.FeedbackEvent, field: str) -> PermissionDenied | None:
        """Why the event at `field` goes beyond the credential. Whether it holds at all is asked elsewhere."""
        for name, allowed in (("app_id", self.app_id), ("subject_id", self.subject_id)):
            if allowed and getattr(event, name) != allowed:
                return _beyond(f"{field}.{name}", f"must be {allowed}, whose credential this is")
        return self._refusal_of_generation(event, field) if self.generation_id else None

    def _refusal_of_generation(self, proto: feedback_pb2.FeedbackEvent, field: str) -> PermissionDenied | None:
        try:
            event = FeedbackEvent.from_proto(proto)
        except InvalidInput:
            return None
        if isinstance(event.feedback, Demonstration):
            return _beyond(f"{field}.demonstration", "takes an app key: a token is for judging")
        if event.generation_ids != (self.generation_id,):
            return _beyond(f"{field}.{event.feedback.kind}", f"must name completions of {self.generation_id} only")
        return None


def _beyond(field: str, description: str) -> PermissionDenied:
    return PermissionDenied(f"{field}: {description}", violations=[FieldViolation(field, description)])


class Credentials:
    """All credentials that hold here."""

    def __init__(self, app_keys: AppKeys, token_keys: TokenKeys, *, max_token_s: float) -> None:
        self._apps = {_digest(key): app for app, keys in app_keys.items() for key in keys}
        self._token_keys, self._max_token_s = token_keys, max_token_s
        self.is_open = not app_keys and not token_keys

    def caller(self, authorization: str | None) -> Caller:
        """Who calls with such a header. Unauthenticated or TokenExpired, with what is wrong."""
        if self.is_open:
            return Caller()
        scheme, _, credential = (authorization or "").strip().partition(" ")
        if not credential or scheme.lower() != "bearer":
            raise Unauthenticated("send Authorization: Bearer with an app key or a feedback token")
        if (app := self._apps.get(_digest(credential.strip()))) is not None:
            return Caller(app)
        token = read_feedback_token(credential.strip(), self._secret, self._max_token_s)
        return Caller(token.app_id, token.subject_id, token.generation_id)

    def _secret(self, app_id: str, key_id: str) -> str | None:
        return self._token_keys.get(app_id, {}).get(key_id)


def _digest(key: str) -> bytes:
    """Keys are looked up by their hash, so that the time of a look-up tells nothing about them."""
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()


def load_credentials(settings: HttpSettings) -> Credentials:
    """The credentials of the settings. ConfigurationInvalid for what cannot be read or would protect nothing."""
    apps: AppKeys = _secrets(settings.app_keys, settings.app_keys_file, "app_keys", dict[str, list[str]])
    tokens: TokenKeys = _secrets(settings.token_keys, settings.token_keys_file, "token_keys", dict[str, dict[str, str]])
    if any(len(key) < MIN_KEY_CHARACTERS for keys in apps.values() for key in keys):
        raise ConfigurationInvalid(f"http.app_keys: a key must have at least {MIN_KEY_CHARACTERS} characters")
    _check_token_keys(tokens)
    credentials = Credentials(apps, tokens, max_token_s=settings.max_token_s)
    if credentials.is_open and settings.host not in LOOPBACK:
        raise ConfigurationInvalid("http.host is not loopback: set http.app_keys or http.token_keys")
    if credentials.is_open:
        log.warning("the HTTP door takes feedback from every program of this machine: no keys are set")
    return credentials


def _check_token_keys(tokens: TokenKeys) -> None:
    try:
        for key_id, secret in (item for keys in tokens.values() for item in keys.items()):
            check_key(key_id, secret)
    except InvalidInput as error:
        raise ConfigurationInvalid(f"http.token_keys: {error.message}") from None


def _secrets(setting: SecretStr, file: str, name: str, shape: Any) -> Any:
    """The JSON of a setting or of the file beside it, in its shape; the error never shows a secret."""
    try:
        text = Path(file).read_text() if file else setting.get_secret_value()
        return TypeAdapter(shape).validate_python(json.loads(text), strict=True) if text else {}
    except OSError as error:
        raise ConfigurationInvalid(f"http.{name}_file: {file} cannot be read: {error.strerror}") from None
    except (ValidationError, ValueError):
        raise ConfigurationInvalid(f"http.{name} must be JSON as its description says") from None
