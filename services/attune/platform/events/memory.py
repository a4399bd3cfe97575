"""An event log in memory, for tests and for one process: the same contract as the durable ones, and several partitions.

`max_bytes` bounds a topic, so that a full disk can be played.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from attune.domain.errors import EventLogUnavailable, OffsetOutOfRange, TopicHasWriter
from attune.platform.events.log import MAX_READ_BYTES, RETENTION_S, Position, Record, check_lengths


class _Partition:
    def __init__(self) -> None:
        self.first = 0
        self.records: list[Record] = []

    @property
    def end(self) -> int:
        return self.first + len(self.records)


class _TopicData:
    def __init__(self, partitions: int) -> None:
        self.changed = threading.Condition()
        self.partitions = [_Partition() for _ in range(partitions)]
        self.has_writer = False
        self.appended = 0
        self.last_time = 0.0

    def bytes_held(self) -> int:
        return sum(len(record.value) for partition in self.partitions for record in partition.records)


class MemoryEventLog:
    """See the module. `clock` gives seconds since the Unix epoch."""

    def __init__(
        self,
        *,
        partitions: int = 1,
        max_bytes: int | None = None,
        retention_s: Mapping[str, float] = RETENTION_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._partitions, self.max_bytes, self._retention_s, self._clock = partitions, max_bytes, retention_s, clock
        self._topics: dict[str, _TopicData] = {}
        self._lock = threading.Lock()

    def _topic(self, topic: str) -> _TopicData:
        with self._lock:
            return self._topics.setdefault(topic, _TopicData(self._partitions))

    def producer(self, topic: str) -> MemoryProducer:
        return MemoryProducer(self, topic, self._topic(topic), self._retention_s.get(topic), self._clock)

    def consumer(self, topic: str) -> MemoryConsumer:
        return MemoryConsumer(topic, self._topic(topic))


class MemoryProducer:
    """Spreads values over the partitions in turn."""

    def __init__(
        self,
        log: MemoryEventLog,
        topic: str,
        data: _TopicData,
        retention_s: float | None,
        clock: Callable[[], float],
    ) -> None:
        self._log, self._data, self._retention_s, self._clock = log, data, retention_s, clock
        self._is_open = True
        with data.changed:
            if data.has_writer:
                raise TopicHasWriter(f"{topic} has a writer already")
            data.has_writer = True

    def append(self, values: Sequence[bytes]) -> list[Position]:
        check_lengths(values)
        with self._data.changed:
            if not self._is_open:
                raise EventLogUnavailable("the producer is closed")
            size = self._data.bytes_held() + sum(map(len, values))
            if self._log.max_bytes is not None and size > self._log.max_bytes:
                raise EventLogUnavailable("the event log is full")
            self._data.last_time = max(self._data.last_time, self._clock())
            positions = [self._store(value) for value in values]
            self._data.changed.notify_all()
            return positions

    def _store(self, value: bytes) -> Position:
        number = self._data.appended % len(self._data.partitions)
        partition = self._data.partitions[number]
        position = Position(number, partition.end)
        partition.records.append(Record(number, position.offset, self._data.last_time, bytes(value)))
        self._data.appended += 1
        return position

    def trim(self, now_s: float) -> int:
        if self._retention_s is None:
            return 0
        with self._data.changed:
            return sum(_drop_before(partition, now_s - self._retention_s) for partition in self._data.partitions)

    def close(self) -> None:
        with self._data.changed:
            if self._is_open:
                self._is_open = self._data.has_writer = False


def _drop_before(partition: _Partition, time_s: float) -> int:
    kept = [record for record in partition.records if record.append_time >= time_s]
    dropped = len(partition.records) - len(kept)
    partition.first, partition.records = partition.first + dropped, kept
    return dropped


class MemoryConsumer:
    """Reads what the producer of the same log stored."""

    def __init__(self, topic: str, data: _TopicData) -> None:
        self._topic, self._data = topic, data
        self._is_closed = False

    def partitions(self) -> list[int]:
        return list(range(len(self._data.partitions)))

    def first_offset(self, partition: int) -> int:
        with self._data.changed:
            return self._data.partitions[partition].first

    def end_offset(self, partition: int) -> int:
        with self._data.changed:
            return self._data.partitions[partition].end

    def read(
        self, partition: int, next_offset: int, max_records: int = 256, max_bytes: int = MAX_READ_BYTES
    ) -> list[Record]:
        with self._data.changed:
            data = self._data.partitions[partition]
            if not data.first <= next_offset <= data.end:
                raise OffsetOutOfRange.at(self._topic, partition, next_offset, data.first, data.end)
            found: list[Record] = []
            size = 0
            for record in data.records[next_offset - data.first :][:max_records]:
                size += len(record.value)
                if found and size > max_bytes:
                    break
                found.append(record)
            return found

    def wait(self, next_offsets: Mapping[int, int], timeout_s: float) -> bool:
        with self._data.changed:
            return (
                self._data.changed.wait_for(lambda: self._is_closed or self._has_news(next_offsets), timeout_s)
                and not self._is_closed
            )

    def report(self, group: str, next_offsets: Mapping[int, int]) -> None:
        """Nobody operates this log."""

    def _has_news(self, next_offsets: Mapping[int, int]) -> bool:
        # An offset beyond the end counts: the read that follows reports it.
        return any(self._data.partitions[number].end != offset for number, offset in next_offsets.items())

    def close(self) -> None:
        with self._data.changed:
            self._is_closed = True
            self._data.changed.notify_all()
