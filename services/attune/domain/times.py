"""Times: seconds since the Unix epoch inside, google.protobuf.Timestamp on the wire."""

from __future__ import annotations

import math

from google.protobuf.timestamp_pb2 import Timestamp

from attune.domain.errors import InvalidInput

FIRST_S, LAST_S = -62_135_596_800, 253_402_300_799
"""The years 1 to 9999, as google.protobuf.Timestamp allows."""
_LATEST = math.nextafter(LAST_S + 1, 0)


def to_timestamp(seconds: float) -> Timestamp:
    """The timestamp, to the microsecond."""
    whole = math.floor(seconds)
    micros = round((seconds - whole) * 1_000_000)  # the difference is exact; all seconds times a million would not be
    return Timestamp(seconds=whole + micros // 1_000_000, nanos=micros % 1_000_000 * 1000)


def from_timestamp(stamp: Timestamp, field: str = "time") -> float:
    """Seconds, to the microsecond; 0.0 for an unset timestamp. InvalidInput beyond the years 1 to 9999.

    What is read is written and read again unchanged: hashes of messages hang on it.
    """
    if not (FIRST_S <= stamp.seconds <= LAST_S and 0 <= stamp.nanos < 1_000_000_000):
        raise InvalidInput.field(field, "must be a time in the years 1 to 9999, with 0 to 999,999,999 nanos")
    seconds = (stamp.seconds * 1_000_000 + stamp.nanos // 1000) / 1_000_000  # one rounding, so that it comes back
    return min(seconds, _LATEST)
