"""A thread that stands behind: its priority is lower, that of the others is not, and errors rise."""

from __future__ import annotations

import os
import sys

import pytest
from attune.platform.priority import LOWEST, done_behind, stand_behind


def own() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own elsewhere")
def test_work_is_done_behind_and_the_caller_stays() -> None:
    before = own()
    assert done_behind(3, own) == min(LOWEST, before + 3)
    assert done_behind(0, own) == before
    assert done_behind(2 * LOWEST, own) == LOWEST
    assert own() == before


def test_an_error_rises() -> None:
    with pytest.raises(ZeroDivisionError):
        done_behind(1, lambda: 1 // 0)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own elsewhere")
def test_no_step_changes_nothing() -> None:
    before = own()
    stand_behind(0)
    assert own() == before
