"""How far apart commits begin: at once while the process has time to spare, further apart the less it has.

A commit costs the process nearly the same for one event as for hundreds. Events that wait for the next one are worth
that cost only once the process, which computes in one interpreter, nears a whole core.
"""

from __future__ import annotations

import time
from collections.abc import Callable

SPARE, SHORT = 0.85, 1.0
"""Cores in use up to which commits wait for nothing, and from which on they wait longest."""
WINDOW_S = 0.1


class CommitPace:
    """Called at each commit; answers the seconds until the next may begin, `longest_s` at most.

    `clock` gives seconds that pass, `cpu_clock` seconds of CPU that the process used.
    """

    def __init__(
        self,
        longest_s: float,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self._longest_s, self._clock, self._cpu_clock = longest_s, clock, cpu_clock
        self._since, self._used = clock(), cpu_clock()
        self._interval_s = 0.0

    def __call__(self) -> float:
        now, used = self._clock(), self._cpu_clock()
        if now - self._since >= WINDOW_S:
            cores = (used - self._used) / (now - self._since)
            self._interval_s = self._longest_s * min(1.0, max(0.0, (cores - SPARE) / (SHORT - SPARE)))
            self._since, self._used = now, used
        return self._interval_s
