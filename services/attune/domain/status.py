"""Errors as google.rpc.Status: what a server sends for an AttuneError. attune.client.errors reads it back."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from attune.domain.errors import ERROR_DOMAIN, AttuneError

OK = status_pb2.Status(code=code_pb2.OK)


def to_status(error: AttuneError) -> status_pb2.Status:
    """Code, message and details: ErrorInfo always, BadRequest for violations, RetryInfo for a known wait."""
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=error.metadata)
    ]
    if error.violations:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description)
            for v in error.violations
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(round(error.retry_after_s * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = []
    for detail in details:
        box = Any()
        box.Pack(detail)
        packed.append(box)
    return status_pb2.Status(code=code_pb2.Code.Value(error.status), message=error.message, details=packed)
