"""Errors of calls: the status that a server sent (attune.domain.status), read back into attune.domain.errors.

The server's reason (google.rpc.ErrorInfo) decides the class. Without one the transport itself failed: no connection is
ServerUnavailable, a passed deadline DeadlineExceeded, anything else a plain AttuneError that names the gRPC status.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import grpc
from google.rpc import error_details_pb2, status_pb2

from attune.domain.errors import BY_REASON, AttuneError, DeadlineExceeded, FieldViolation, ServerUnavailable

DETAILS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"
BROKEN_STREAM = "Internal error from Core"
"""What grpc.aio says when a message was written to a stream that the server had just ended."""
_BY_TRANSPORT_STATUS = {error.status: error for error in (ServerUnavailable, DeadlineExceeded)}


class FailedCall(Protocol):
    """What a failed call tells, blocking or asyncio."""

    def code(self) -> grpc.StatusCode: ...

    def details(self) -> str | None: ...

    def trailing_metadata(self) -> Any: ...


def error_of_call(call: FailedCall, address: str = "") -> AttuneError:
    """The error that a failed call to `address` stands for; its `retry_after_s` is the server's RetryInfo or
    pushback."""
    metadata = dict(_pairs(call.trailing_metadata()))
    error = _from_details(metadata.get(DETAILS_KEY)) or _from_transport(call, address)
    pushback = metadata.get(PUSHBACK_KEY)
    if error.retry_after_s is None and isinstance(pushback, str) and pushback.isdigit():
        error.retry_after_s = int(pushback) / 1000
    return error


def _pairs(metadata: Iterable[tuple[str, Any]] | None) -> Iterable[tuple[str, Any]]:
    return [(key, value) for key, value in metadata or ()]


def _from_details(details: bytes | None) -> AttuneError | None:
    return None if details is None else from_status(status_pb2.Status.FromString(details))


def _from_transport(call: FailedCall, address: str) -> AttuneError:
    """gRPC's own words are long; their end says what happened, and all of them stay in the metadata."""
    name, details = call.code().name, call.details() or ""
    message = f"{name}: {details.rpartition(': ')[2] or 'no details'}" + (f" ({address})" if address else "")
    cls = ServerUnavailable if details == BROKEN_STREAM else _BY_TRANSPORT_STATUS.get(name, AttuneError)
    return cls(message, metadata={"grpc_status": name, "details": details})


def from_status(status: status_pb2.Status) -> AttuneError:
    """The error that a google.rpc.Status with code other than OK carries."""
    info, bad, retry = (
        _detail(status, kind)
        for kind in (error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo())
    )
    cls = BY_REASON.get(info.reason if info else "", AttuneError)
    return cls(
        status.message,
        metadata=dict(info.metadata) if info else None,
        violations=[FieldViolation(v.field, v.description) for v in bad.field_violations] if bad else (),
        retry_after_s=retry.retry_delay.ToTimedelta().total_seconds() if retry else None,
    )


def _detail(status: status_pb2.Status, kind: Any) -> Any:
    for packed in status.details:
        if packed.Unpack(kind):
            return kind
    return None
