"""Where something was traced: the W3C traceparent, kept as text beside what the event log holds.

It says which span of which trace a generation or an event came about in, so that spans made later, days perhaps, can
link to it. The event log may be written by other programs: what is no traceparent of version 00 is none at all.
"""

from __future__ import annotations

import re

_IS_TRACEPARENT = re.compile("00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}").fullmatch


def checked_traceparent(text: str) -> str:
    """The text if it is a traceparent, else empty: a trace is of use to people only, and nothing is refused for it."""
    return text if text and _IS_TRACEPARENT(text) else ""
