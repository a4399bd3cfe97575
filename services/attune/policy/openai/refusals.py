"""Errors in OpenAI's form: the HTTP status of a row of attune.domain.errors, and a body that its SDKs read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from attune.domain.errors import AttuneError
from attune.platform.web.refusals import headers_of, http_status

_TYPES: Mapping[int, str] = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES: Mapping[str, str] = {"REVISION_UNKNOWN": "model_not_found", "PROMPT_TOO_LONG": "context_length_exceeded"}
"""What OpenAI calls a reason; any other is itself in lower case."""
_STATUS: Mapping[str, int] = {"DEADLINE_UNATTAINABLE": 503}
"""Of reasons whose usual status OpenAI's clients would misread: 429 tells a caller to send less, and it is the server
that is too slow."""


def refused(error: AttuneError | web.HTTPException) -> web.Response:
    """The answer that carries an error."""
    if isinstance(error, AttuneError):
        return _answer(_status(error), error_body(error), _headers(error))
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return _answer(error.status, _body(error.status, error.reason, None, None), headers)


def error_body(error: AttuneError) -> dict[str, Any]:
    """The body of an error: message, type, the parameter at fault if one is, and a code."""
    param = error.violations[0].field if error.violations else None
    return _body(_status(error), error.message, param, _CODES.get(error.reason, error.reason.lower()))


def _status(error: AttuneError) -> int:
    return _STATUS.get(error.reason) or http_status(error)


def _body(status: int, message: str, param: str | None, code: str | None) -> dict[str, Any]:
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _headers(error: AttuneError) -> dict[str, str]:
    """OpenAI's SDKs send again after a 409 unless they are told not to; a used id stays used."""
    again = {"x-should-retry": "false"} if error.status == "ALREADY_EXISTS" else {}
    return headers_of(error) | again


def _answer(status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> web.Response:
    return web.Response(status=status, text=json.dumps(body), content_type="application/json", headers=headers)
