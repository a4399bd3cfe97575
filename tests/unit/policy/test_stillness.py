"""The stillness at a swap is the longest gap between tokens, from the begin of a load until it has settled."""

from __future__ import annotations

import pytest
from attune.policy.stillness import Stillness

SETTLING_S = 1.0


class Watched:
    """A stillness on a clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0
        self.seen: list[float] = []
        self.stillness = Stillness(self.seen.append, SETTLING_S, lambda: self.now)

    def tokens(self, *gaps_s: float) -> None:
        """A token after each gap."""
        for gap_s in gaps_s:
            self.now += gap_s
            self.stillness.saw_tokens()


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_the_longest_gap_of_a_swap_is_observed_once(watched: Watched) -> None:
    watched.tokens(0.0, 9.0)
    with watched.stillness.watched():
        watched.tokens(0.1, 0.25, 0.2)
        assert watched.seen == []
    watched.tokens(0.1, SETTLING_S, 9.0)
    assert watched.seen == [SETTLING_S]


def test_the_gap_in_which_the_load_begins_counts_whole(watched: Watched) -> None:
    watched.tokens(0.0)
    watched.now += 0.5
    with watched.stillness.watched():
        watched.tokens(0.25)
    watched.tokens(*[0.125] * 9)
    assert watched.seen == [0.75]


def test_loads_that_meet_are_one_swap(watched: Watched) -> None:
    watched.tokens(0.0)
    for gap_s in (0.25, 0.5):
        with watched.stillness.watched():
            watched.tokens(gap_s)
    assert watched.seen == []
    watched.tokens(*[0.125] * 9)
    assert watched.seen == [0.5]


def test_what_does_not_run_does_not_stand_still(watched: Watched) -> None:
    with watched.stillness.watched():
        watched.stillness.saw_idle()
        watched.now += 9.0
    assert watched.seen == [0.0]
    watched.tokens(0.0)
    assert watched.seen == [0.0]


def test_a_swap_ends_when_all_is_written(watched: Watched) -> None:
    watched.tokens(0.0)
    with watched.stillness.watched():
        watched.tokens(0.25)
    watched.stillness.saw_idle()
    assert watched.seen == [0.25]


def test_a_load_that_fails_is_observed_too(watched: Watched) -> None:
    with pytest.raises(ValueError, match="bad"), watched.stillness.watched():
        raise ValueError("bad")
    assert watched.seen == [0.0]
