"""A thread that stands behind: its priority is lower, and that of the others is not."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from attune.platform.priority import LOWEST, stand_behind

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own elsewhere")


def own() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


@pytest.mark.parametrize("nice", [0, 3, 2 * LOWEST])
def test_only_the_thread_that_asks_stands_behind(nice: int) -> None:
    before = own()
    with ThreadPoolExecutor(1, initializer=stand_behind, initargs=(nice,)) as pool:
        assert pool.submit(own).result() == min(LOWEST, before + nice)
    assert own() == before
