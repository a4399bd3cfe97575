"""Errors over HTTP: the status code of a row of attune.domain.errors, with a google.rpc.Status as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping

from aiohttp import web
from google.protobuf.json_format import MessageToJson
from google.rpc import code_pb2, status_pb2

from attune.domain.errors import AttuneError
from attune.domain.status import to_status

HTTP_STATUS: Mapping[str, int] = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""What HTTP calls a gRPC status; any other is 500."""

_RPC_CODE = {404: code_pb2.NOT_FOUND, 405: code_pb2.UNIMPLEMENTED}
"""What gRPC calls the refusals of HTTP itself; any other is the caller's INVALID_ARGUMENT."""


def refused(error: AttuneError | web.HTTPException) -> web.Response:
    """`refusal` or `refusal_of_http`, whichever the error takes."""
    return refusal(error) if isinstance(error, AttuneError) else refusal_of_http(error)


def refusal(error: AttuneError) -> web.Response:
    """The answer that carries an error."""
    return _answer(http_status(error), to_status(error), headers_of(error))


def http_status(error: AttuneError) -> int:
    return HTTP_STATUS.get(error.status, 500)


def headers_of(error: AttuneError) -> dict[str, str]:
    """When to come back, and what a 401 misses."""
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if error.status == "UNAUTHENTICATED":
        headers["WWW-Authenticate"] = "Bearer"
    return headers


def refusal_of_http(error: web.HTTPException) -> web.Response:
    """As `refusal`, for what HTTP itself refuses: no such path, another method, too large a body."""
    code = _RPC_CODE.get(error.status, code_pb2.INVALID_ARGUMENT)
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return _answer(error.status, status_pb2.Status(code=code, message=error.reason), headers)


def _answer(http_status: int, status: status_pb2.Status, headers: Mapping[str, str]) -> web.Response:
    text = MessageToJson(status, indent=None)
    return web.Response(status=http_status, text=text, content_type="application/json", headers=headers)
