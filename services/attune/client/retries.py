"""Which failed calls are tried again, and after what pause.

Tried again: UNAVAILABLE, and RESOURCE_EXHAUSTED when the server says when to come back (RetryInfo or pushback).
Never: a passed deadline, a cancelled call, anything that a repetition cannot mend. All attempts of a call share its one
deadline. Pauses grow by a factor and are drawn at random below that ("full jitter"), so that clients of a restarted
server do not return in step.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from attune.domain.errors import AttuneError


@dataclass(frozen=True)
class RetryPolicy:
    """At most `attempts` in all; before attempt k + 1 a pause below min(longest_s, first_s * factor^(k - 1))."""

    attempts: int = 5
    first_s: float = 0.1
    factor: float = 2.0
    longest_s: float = 5.0


NO_RETRY = RetryPolicy(attempts=1)


class Attempts:
    """The attempts of one call: what is left of its time, and whether and when to try again."""

    def __init__(
        self,
        policy: RetryPolicy,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._draw = draw
        self._deadline = clock() + timeout_s
        self.failed = 0

    @property
    def remaining_s(self) -> float:
        return max(0.0, self._deadline - self._clock())

    def pause_after(self, error: AttuneError) -> float | None:
        """Seconds to wait before the next attempt; None: give up and raise the error."""
        self.failed += 1
        if self.failed >= self._policy.attempts or not _is_retryable(error):
            return None
        ceiling = min(self._policy.longest_s, self._policy.first_s * self._policy.factor ** (self.failed - 1))
        pause_s = self._draw() * ceiling + (error.retry_after_s or 0.0)
        return pause_s if pause_s < self.remaining_s else None


def _is_retryable(error: AttuneError) -> bool:
    if error.status == "RESOURCE_EXHAUSTED":
        return error.retry_after_s is not None
    return error.status == "UNAVAILABLE"
