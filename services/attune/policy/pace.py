"""How fast the engine is, learned as it goes, and so whether an answer can come before its deadline.

Two figures, as moving averages: the seconds of a turn (one token for every running completion) while there is a queue,
and the share of its limit that a completion uses before it ends. With both a job knows about when its turn comes and
how long it takes. Nothing is foretold before both are known, and the wait for an empty queue is none.
"""

from __future__ import annotations

WEIGHT = 0.05
"""Of the newest observation."""


class Pace:
    """Written by the engine's thread, read by both; `slots` is how many completions run at once."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._turn_s: float | None = None
        self._share: float | None = None

    def saw_turn(self, seconds: float) -> None:
        """One turn of the engine."""
        self._turn_s = _moved(self._turn_s, seconds)

    def saw_end(self, tokens: int, limit: int) -> None:
        """A completion ended after `tokens` of at most `limit`."""
        self._share = _moved(self._share, tokens / limit)

    def wait_s(self, tokens_ahead: int) -> float:
        """Seconds until it is a job's turn that has so many tokens before it, by their limits."""
        return self._expected(tokens_ahead / self._slots)

    def writing_s(self, limit: int) -> float:
        """Seconds that a completion of at most `limit` tokens takes once it runs."""
        return self._expected(limit)

    def _expected(self, turns: float) -> float:
        if self._turn_s is None or self._share is None:
            return 0.0
        return turns * self._share * self._turn_s


def _moved(average: float | None, found: float) -> float:
    return found if average is None else average + WEIGHT * (found - average)
