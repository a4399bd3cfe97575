"""What is a traceparent, and what is none."""

from __future__ import annotations

import pytest
from attune.domain.traces import checked_traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize("flags", ["00", "01"])
def test_a_traceparent_stays(flags: str) -> None:
    assert checked_traceparent(f"00-{TRACE}-{SPAN}-{flags}") == f"00-{TRACE}-{SPAN}-{flags}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "trace me",
        f"01-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01\n",
        "x" * 100_000,
    ],
    ids=range(9),
)
def test_anything_else_is_none(text: str) -> None:
    assert checked_traceparent(text) == ""
