"""The one table of errors: a status that gRPC knows, a reason of its own, and both directions agree."""

from __future__ import annotations

import re

import grpc
import pytest
from attune.client.errors import from_status
from attune.domain.errors import BY_REASON, AttuneError, FieldViolation, InvalidInput, OffsetOutOfRange
from attune.domain.status import to_status


def all_errors() -> list[type[AttuneError]]:
    found, waiting = [], [AttuneError]
    while waiting:
        found.append(cls := waiting.pop())
        waiting += cls.__subclasses__()
    return [cls for cls in found if cls.__module__ == "attune.domain.errors"]


def test_reasons_are_unique_and_in_the_table() -> None:
    reasons = [error.reason for error in all_errors()]
    assert len(reasons) == len(set(reasons))
    assert all(BY_REASON[error.reason] is error for error in all_errors())


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: error.__name__)
def test_each_has_a_grpc_status_a_reason_and_a_meaning(error: type[AttuneError]) -> None:
    assert error.status in grpc.StatusCode.__members__
    assert re.fullmatch(r"[A-Z]+(_[A-Z]+)*", error.reason)
    assert error.__doc__


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: error.__name__)
def test_the_client_reads_what_the_server_wrote(error: type[AttuneError]) -> None:
    sent = error("no", metadata={"a": "b"}, violations=[FieldViolation("x.y", "must be")], retry_after_s=1.5)
    read = from_status(to_status(sent))
    assert type(read) is error
    assert (read.message, read.metadata, read.violations, read.retry_after_s) == (
        "no", {"a": "b"}, (FieldViolation("x.y", "must be"),), 1.5,
    )  # fmt: skip


def test_shorthands() -> None:
    assert InvalidInput.field("a", "must b").violations == (FieldViolation("a", "must b"),)
    assert OffsetOutOfRange.at("t", 0, 9, 1, 5).metadata["end_offset"] == "5"
