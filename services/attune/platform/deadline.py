"""How long the request being served may still take: set by the server of gRPC or HTTP, asked by what works for it.

It goes along into the tasks that are made for the request.
"""

from __future__ import annotations

import time
from contextvars import ContextVar

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


def set_deadline(seconds: float) -> None:
    """The request being served ends after so many seconds from now."""
    _deadline.set(time.monotonic() + seconds)


def remaining_s(at_most: float) -> float:
    """Seconds left of the request being served, to pass on to the calls made for it; never more than `at_most`."""
    deadline = _deadline.get()
    return at_most if deadline is None else max(0.0, min(at_most, deadline - time.monotonic()))
