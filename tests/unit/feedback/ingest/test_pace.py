from __future__ import annotations

import pytest
from attune.feedback.ingest.pace import CommitPace


class Clocks:
    def __init__(self) -> None:
        self.now = self.used = 0.0

    def spend(self, seconds: float, cores: float) -> None:
        self.now += seconds
        self.used += seconds * cores


@pytest.mark.parametrize(("cores", "interval_s"), [(0.1, 0.0), (0.85, 0.0), (0.925, 0.006), (1.0, 0.012), (1.3, 0.012)])
def test_commits_wait_the_longer_the_busier_the_process(cores: float, interval_s: float) -> None:
    clocks = Clocks()
    pace = CommitPace(0.012, lambda: clocks.now, lambda: clocks.used)
    clocks.spend(0.2, cores)
    assert pace() == pytest.approx(interval_s)


def test_what_was_long_ago_is_forgotten_and_a_moment_decides_nothing() -> None:
    clocks = Clocks()
    pace = CommitPace(0.012, lambda: clocks.now, lambda: clocks.used)
    clocks.spend(60.0, 0.0)
    assert pace() == 0.0
    clocks.spend(0.01, 1.0)
    assert pace() == 0.0
    clocks.spend(0.09, 1.0)
    assert pace() == pytest.approx(0.012)
    clocks.spend(0.2, 0.2)
    assert pace() == 0.0
