"""Times go there and back to the microsecond; what is no time is refused."""

from __future__ import annotations

import pytest
from attune.domain.errors import InvalidInput
from attune.domain.times import FIRST_S, LAST_S, from_timestamp, to_timestamp
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import example, given
from hypothesis import strategies as st


@given(st.integers(FIRST_S * 1000, LAST_S * 1000))
def test_round_trip_of_milliseconds(millis: int) -> None:
    assert from_timestamp(to_timestamp(millis / 1000)) == pytest.approx(millis / 1000, abs=1e-4)


@given(st.integers(FIRST_S, LAST_S), st.integers(0, 999_999_999))
@example(LAST_S, 999_999_999)
@example(FIRST_S, 1)
@example(18_014_398_510, 121_000)
def test_what_was_read_is_written_and_read_unchanged(seconds: int, nanos: int) -> None:
    read = from_timestamp(Timestamp(seconds=seconds, nanos=nanos))
    assert read == pytest.approx(seconds + nanos / 1e9, abs=1e-4, rel=0)
    assert from_timestamp(to_timestamp(read)) == read


@given(st.integers(0, 4_000_000_000_000_000))
def test_round_trip_of_microseconds_of_our_century(micros: int) -> None:
    assert from_timestamp(to_timestamp(micros / 1_000_000)) == micros / 1_000_000


def test_unset_is_zero() -> None:
    assert from_timestamp(Timestamp()) == 0.0


@pytest.mark.parametrize("stamp", [Timestamp(seconds=2**62), Timestamp(seconds=-(2**62)), Timestamp(nanos=-1),
                                   Timestamp(nanos=1_000_000_000)])  # fmt: skip
def test_what_is_no_time_is_refused_by_field(stamp: Timestamp) -> None:
    with pytest.raises(InvalidInput) as raised:
        from_timestamp(stamp, "event.time")
    assert raised.value.violations[0].field == "event.time"
