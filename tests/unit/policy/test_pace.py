"""The pace: figures worked by hand, and nothing foretold before there are any."""

from __future__ import annotations

import pytest
from attune.policy.pace import WEIGHT, Pace


def test_nothing_is_foretold_before_something_was_seen() -> None:
    pace = Pace(4)
    pace.saw_turn(0.1)
    assert (pace.wait_s(1000), pace.writing_s(1000)) == (0.0, 0.0)


def test_tokens_ahead_are_written_side_by_side_and_own_ones_one_after_another() -> None:
    pace = Pace(4)
    pace.saw_turn(0.1)
    pace.saw_end(tokens=5, limit=10)
    assert pace.wait_s(80) == pytest.approx(80 / 4 * 0.5 * 0.1)
    assert pace.writing_s(20) == pytest.approx(20 * 0.5 * 0.1)
    assert pace.wait_s(0) == 0.0


def test_what_was_seen_last_weighs_a_little() -> None:
    pace = Pace(1)
    pace.saw_end(1, 1)
    pace.saw_turn(1.0)
    pace.saw_turn(3.0)
    assert pace.writing_s(1) == pytest.approx(1.0 + WEIGHT * 2.0)
