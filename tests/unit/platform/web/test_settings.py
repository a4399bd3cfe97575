"""What the settings of an HTTP door mean."""

from __future__ import annotations

import pytest
from attune.platform.web.settings import HttpLimits, HttpPort


@pytest.mark.parametrize(
    ("origins", "named"),
    [("", set()), ("*", {"*"}), ("https://a.example, https://b.example,", {"https://a.example", "https://b.example"})],
    ids=["none", "all", "two"],
)
def test_origins_stand_between_commas(origins: str, named: set[str]) -> None:
    assert HttpPort(origins=origins).limits(1.0).origins == named


def test_the_defaults_are_those_of_the_limits_and_no_door() -> None:
    assert HttpPort().limits(HttpLimits().grace_s) == HttpLimits()
    assert HttpPort().port is None
    assert HttpPort(max_body_kib=2).limits(1.0).max_body_bytes == 2048
