"""Times: seconds since the Unix epoch inside, google.protobuf.Timestamp on the wire."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp


def to_timestamp(seconds: float) -> Timestamp:
    """The timestamp, to the microsecond."""
    micros = round(seconds * 1_000_000)
    return Timestamp(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)


def from_timestamp(stamp: Timestamp) -> float:
    """Seconds, to the microsecond; 0.0 for an unset timestamp."""
    return stamp.seconds + stamp.nanos // 1000 / 1_000_000
