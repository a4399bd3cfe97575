"""Every domain error survives the way back from its wire form."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from attune.client.errors import BROKEN_STREAM, error_of_call
from attune.domain.errors import BY_REASON, AttuneError, DeadlineExceeded, FieldViolation, QueueFull, ServerUnavailable
from attune.domain.status import to_status


class Call:
    """A failed call that says what it is told to."""

    def __init__(
        self, code: grpc.StatusCode, metadata: tuple[tuple[str, Any], ...] = (), details: str = "long: words"
    ) -> None:
        self._code, self._metadata, self._details = code, metadata, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> tuple[tuple[str, Any], ...]:
        return self._metadata


@pytest.mark.parametrize("cls", BY_REASON.values(), ids=BY_REASON)
def test_a_reason_becomes_its_class(cls: type[AttuneError]) -> None:
    sent = cls("words", metadata={"a": "b"}, violations=[FieldViolation("f", "bad")], retry_after_s=1.5)
    details = to_status(sent).SerializeToString()
    got = error_of_call(Call(grpc.StatusCode[cls.status], (("grpc-status-details-bin", details),)))
    assert type(got) is cls
    assert (got.message, got.metadata, got.violations, got.retry_after_s) == (
        sent.message,
        sent.metadata,
        sent.violations,
        sent.retry_after_s,
    )


@pytest.mark.parametrize(
    ("code", "cls"),
    [
        (grpc.StatusCode.UNAVAILABLE, ServerUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded),
        (grpc.StatusCode.CANCELLED, AttuneError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, AttuneError),
    ],
)
def test_a_failure_of_the_transport_names_its_status(code: grpc.StatusCode, cls: type[AttuneError]) -> None:
    got = error_of_call(Call(code))
    assert type(got) is cls
    assert got.metadata == {"grpc_status": code.name, "details": "long: words"}
    assert got.message == f"{code.name}: words"
    assert error_of_call(Call(code), "shop:7001").message == f"{code.name}: words (shop:7001)"


def test_a_stream_that_the_server_ended_under_a_write_is_a_server_that_went() -> None:
    assert type(error_of_call(Call(grpc.StatusCode.INTERNAL, details=BROKEN_STREAM))) is ServerUnavailable


def test_pushback_is_when_to_come_back() -> None:
    details = to_status(QueueFull("full")).SerializeToString()
    metadata = (("grpc-status-details-bin", details), ("grpc-retry-pushback-ms", "250"))
    assert error_of_call(Call(grpc.StatusCode.RESOURCE_EXHAUSTED, metadata)).retry_after_s == 0.25
    metadata = (("grpc-status-details-bin", details), ("grpc-retry-pushback-ms", "-1"))
    assert error_of_call(Call(grpc.StatusCode.RESOURCE_EXHAUSTED, metadata)).retry_after_s is None
