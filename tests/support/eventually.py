"""Waiting for something to become true, with a deadline, never for a fixed time."""

import asyncio
import time
from collections.abc import Callable

PAUSE_S = 0.01


async def eventually(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Returns when `condition()` is true; AssertionError if it is not within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not true within {timeout_s} s"
        await asyncio.sleep(PAUSE_S)


def eventually_sync(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """As `eventually`, blocking."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not true within {timeout_s} s"
        time.sleep(PAUSE_S)
