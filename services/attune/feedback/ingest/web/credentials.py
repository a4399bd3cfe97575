"""Who calls over HTTP, and what they may say.

An app's backend calls with a key for feedback (attune.platform.access.keys) and may say everything within its app. A
browser calls with a token (attune.client.tokens) and may say what one person thinks of one generation: a rating, a
comparison or a ranking. Both come as `Authorization: Bearer …`. The secrets that sign tokens are JSON, from the
environment or a file:

    {"shop": {"2026-11": "<secret>"}}

Without any of them a door on loopback is open to all, and any other refuses to start.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from attune.client.tokens import check_key, read_feedback_token
from attune.domain.access import Scope
from attune.domain.errors import ConfigurationInvalid, InvalidInput, Unauthenticated
from attune.feedback.ingest.caller import Caller
from attune.feedback.ingest.config import HttpSettings
from attune.platform.access.keys import SCHEME, KeyStore, allowed
from attune.platform.config import LOOPBACK

TokenKeys = Mapping[str, Mapping[str, str]]
_SHAPE: TypeAdapter[TokenKeys] = TypeAdapter(dict[str, dict[str, str]])

log = logging.getLogger(__name__)


class Credentials:
    """All credentials that hold here."""

    def __init__(self, keys: KeyStore, token_keys: TokenKeys, *, max_token_s: float) -> None:
        self._keys, self._token_keys, self._max_token_s = keys, token_keys, max_token_s
        self.is_open = keys.is_open and not token_keys

    def caller(self, authorization: str | None) -> Caller:
        """Who calls with such a header. Unauthenticated, TokenExpired or PermissionDenied, with what is wrong."""
        if self.is_open:
            return Caller()
        scheme, _, credential = (authorization or "").strip().partition(" ")
        if not credential or scheme.lower() != SCHEME:
            raise Unauthenticated("send Authorization: Bearer with a key or a feedback token")
        if (identity := self._keys.known(credential.strip())) is not None:
            return Caller(allowed(identity, Scope.FEEDBACK).name)
        token = read_feedback_token(credential.strip(), self._secret, self._max_token_s)
        return Caller(token.app_id, token.subject_id, token.generation_id)

    def _secret(self, app_id: str, key_id: str) -> str | None:
        return self._token_keys.get(app_id, {}).get(key_id)


def load_credentials(settings: HttpSettings, keys: KeyStore) -> Credentials:
    """The keys, and the tokens of the settings. ConfigurationInvalid for what cannot be read or protects nothing."""
    credentials = Credentials(keys, _token_keys(settings), max_token_s=settings.max_token_s)
    if credentials.is_open and settings.host not in LOOPBACK:
        raise ConfigurationInvalid("http.host is not loopback: set keys_file or http.token_keys")
    if credentials.is_open:
        log.warning("the HTTP door takes feedback from every program of this machine: no keys are set")
    return credentials


def _token_keys(settings: HttpSettings) -> TokenKeys:
    """The secrets of the setting or of the file beside it; an error never shows one."""
    file = settings.token_keys_file
    try:
        text = Path(file).read_text() if file else settings.token_keys.get_secret_value()
        tokens = _SHAPE.validate_python(json.loads(text), strict=True) if text else {}
        for key_id, secret in (item for keys in tokens.values() for item in keys.items()):
            check_key(key_id, secret)
    except OSError as error:
        raise ConfigurationInvalid(f"http.token_keys_file: {file} cannot be read: {error.strerror}") from None
    except (ValidationError, ValueError):
        raise ConfigurationInvalid("http.token_keys must be JSON as its description says") from None
    except InvalidInput as error:
        raise ConfigurationInvalid(f"http.token_keys: {error.message}") from None
    return tokens
