"""Errors as google.rpc.Status: code, message, and only the details there are."""

from __future__ import annotations

from attune.domain.errors import InvalidInput, QueueFull
from attune.domain.status import OK, to_status
from google.rpc import code_pb2, error_details_pb2


def kinds(status) -> list[str]:
    return [detail.TypeName().rpartition(".")[2] for detail in status.details]


def test_details() -> None:
    status = to_status(InvalidInput.field("prompt", "must not be empty"))
    assert (status.code, status.message) == (code_pb2.INVALID_ARGUMENT, "prompt: must not be empty")
    assert kinds(status) == ["ErrorInfo", "BadRequest"]
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("attune", "INVALID_INPUT")


def test_a_known_wait_is_told() -> None:
    status = to_status(QueueFull("full", retry_after_s=0.25))
    assert kinds(status) == ["ErrorInfo", "RetryInfo"]
    retry = error_details_pb2.RetryInfo()
    status.details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 250


def test_ok() -> None:
    assert OK.code == code_pb2.OK
