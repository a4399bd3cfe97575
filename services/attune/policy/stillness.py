"""How long the engine stands still while weights are made ready beside it.

Nothing of a swap runs in the engine's thread, but what fetches, verifies and tries the new weights wants the same cores
and the same interpreter. From the begin of that work until it is over and the new revision has had time to take its
first requests, the longest time is noted in which no running completion gained a token. Work that begins meanwhile, as
the move of the alias does after a preload, is of the same swap.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SETTLING_S = 1.0
"""Longer than it takes until a server sees that an alias has moved to what it has preloaded."""


class Stillness:
    """`observe` gets the seconds of each swap, 0.0 where nothing ran. The engine's thread calls `saw_tokens` and
    `saw_idle`, whoever loads weights `watched`."""

    def __init__(
        self,
        observe: Callable[[float], object],
        settling_s: float = SETTLING_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._observe = observe
        self._settling_s = settling_s
        self._clock = clock
        self._lock = threading.Lock()
        self._loads = 0
        self._until: float | None = None
        self._longest_s = 0.0
        self._last_tokens: float | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around the making ready of weights, on any thread."""
        with self._lock:
            self._loads += 1
            self._until = self._until or -math.inf
        try:
            yield
        finally:
            with self._lock:
                self._loads -= 1
                self._until = self._clock() + self._settling_s
                if self._last_tokens is None:
                    self._end()

    def saw_tokens(self) -> None:
        """Completions have gained a token, those of one revision or all."""
        with self._lock:
            now = self._clock()
            if self._until is not None:
                self._longest_s = max(self._longest_s, now - (now if self._last_tokens is None else self._last_tokens))
                if now >= self._until:
                    self._end()
            self._last_tokens = now

    def saw_idle(self) -> None:
        """Nothing runs, so nothing stands still."""
        with self._lock:
            self._last_tokens = None
            self._end()

    def _end(self) -> None:
        if self._loads or self._until is None:
            return
        self._observe(self._longest_s)
        self._until, self._longest_s = None, 0.0
