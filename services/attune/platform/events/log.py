"""The event log: what every implementation keeps, and what producers and consumers may rely on.

A topic has partitions; a partition is a sequence of records at growing offsets. A record's value is a protobuf batch;
the identity of an event is (topic, partition, offset, index in the batch). Values come from the policy servers, ingest
and the join, and from apps that write feedback to Kafka themselves; they go to the join.

Rules of the contract, held by tests/unit/platform/events/test_log.py for each implementation:

1. `append` returns when the records are durable. Many values in one call are one group commit, and the caller does it.
   A value has at most MAX_VALUE_BYTES; InvalidInput otherwise, and nothing is stored.
2. EventLogUnavailable means that nothing was acknowledged and no part of a record was stored; it comes in bounded time,
   and the log is usable again once the cause is gone. As with any log, the caller cannot tell a lost answer from a lost
   write, so a repeated append may store an event a second time; events have ids, and the join counts each once.
3. The log does not keep consumers' positions: a consumer stores its next offset in the transaction of its effect.
4. A read below the first retained offset, or beyond the end, raises OffsetOutOfRange; nothing is skipped silently.
   An offset without a record (Kafka has such) is passed over: a read from it gives the record behind it.
5. `append_time` is the log's clock, never a sender's. The embedded logs never let it fall within a partition; on Kafka
   it may fall by as much as the clocks of the brokers differ.

Everything here blocks. A server calls its producer from one writer thread, and a consumer runs on a thread of its own;
objects may be shared by threads, calls are serialised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

from attune.domain.errors import InvalidInput

DAY_S = 24 * 3600.0
MAX_READ_BYTES = 4 * 1024 * 1024
# The longest message of an RPC: no generation or feedback event is longer.
MAX_VALUE_BYTES = 16 * 1024 * 1024


class Topic(StrEnum):
    """The topics of Attune."""

    GENERATIONS = "attune.generations"
    FEEDBACK = "attune.feedback"
    DEAD_LETTERS = "attune.dead-letters"


# Feedback must outlive the join's seven days of exact deduplication, or a replay could not repeat its decisions.
RETENTION_S: Mapping[str, float] = MappingProxyType(
    {Topic.GENERATIONS: 14 * DAY_S, Topic.FEEDBACK: 14 * DAY_S, Topic.DEAD_LETTERS: 30 * DAY_S}
)


@dataclass(frozen=True)
class Position:
    """Where a value was stored."""

    partition: int
    offset: int


@dataclass(frozen=True)
class Record:
    """A stored value; `append_time` in seconds since the Unix epoch, by the log's clock."""

    partition: int
    offset: int
    append_time: float
    value: bytes


def check_lengths(values: Sequence[bytes]) -> None:
    """InvalidInput if a value is longer than the log takes."""
    longest = max(map(len, values), default=0)
    if longest > MAX_VALUE_BYTES:
        raise InvalidInput(f"a record of {longest} bytes is longer than the event log takes, {MAX_VALUE_BYTES}")


class Producer(Protocol):
    """The writing end of one topic."""

    def append(self, values: Sequence[bytes]) -> list[Position]:
        """Stores all values durably and says where, in order. EventLogUnavailable if the log cannot store now."""

    def trim(self, now_s: float) -> int:
        """Drops records older than the topic's retention and returns how many. A broker does that by itself: 0."""

    def close(self) -> None:
        """Lets another process write; a closed producer cannot be used."""


class Consumer(Protocol):
    """The reading end of one topic."""

    def partitions(self) -> list[int]:
        """Numbers of the partitions."""

    def first_offset(self, partition: int) -> int:
        """The first offset still retained; equals end_offset where the partition is empty."""

    def end_offset(self, partition: int) -> int:
        """The offset the next record will get; end_offset minus the next offset to read is the lag in records."""

    def read(
        self, partition: int, next_offset: int, max_records: int = 256, max_bytes: int = MAX_READ_BYTES
    ) -> list[Record]:
        """Records from next_offset on, in order; empty at the end, else at least one, however large.

        OffsetOutOfRange if next_offset is below first_offset or above end_offset; EventLogUnavailable if unreadable;
        TopicChanged if partitions were added since the first call: whoever reads must start anew.
        """

    def wait(self, next_offsets: Mapping[int, int], timeout_s: float) -> bool:
        """Blocks until a read at one of these offsets (by partition) would not be empty; False after timeout_s.

        `close` from another thread ends the wait at once.
        """

    def report(self, group: str, next_offsets: Mapping[int, int]) -> None:
        """Tells those who operate the log how far a group of readers is (by partition); nothing reads it back."""

    def close(self) -> None:
        """Releases files and connections."""


class EventLog(Protocol):
    """A set of topics."""

    def producer(self, topic: str) -> Producer:
        """Opens a topic for writing. TopicHasWriter if the implementation allows one process and another is it."""

    def consumer(self, topic: str) -> Consumer:
        """Opens a topic for reading; it need not exist yet.

        Until it does, an embedded topic is empty, and one that a broker must be told to make is EventLogUnavailable.
        """
