"""The reading end of a topic on Kafka: every partition, from the offsets that the caller asks for.

No offset is taken from Kafka (rule 3), and none is ever reset: a position outside a partition is reported. Partitions
are not shared out among the members of a group either: the reader merges all of them in one order, and its positions
lie in its database, where the commit of one that was overtaken fails. That fence alone keeps several readers safe.

Records that have come are held, a bounded window a partition, so that a caller who takes only part of them does not
fetch them again. A failed client is dropped with its windows, and the next call connects anew.

Offsets may have gaps: markers of transactions, and records of aborted ones, belong to nobody who reads. Where only
those are left, the partition's end is said to be at the offset that was asked for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import OffsetOutOfRangeError

from attune.domain.errors import ConfigurationInvalid, EventLogUnavailable, OffsetOutOfRange, TopicChanged
from attune.platform.events.kafka.connection import connect, errors_of
from attune.platform.events.kafka.progress import Progress
from attune.platform.events.log import MAX_READ_BYTES, Record
from attune.platform.events.settings import KafkaSettings

WINDOW_BYTES = 2 * MAX_READ_BYTES
FETCH_BYTES = 4 * MAX_READ_BYTES
LONGEST_POLL_S, LONGEST_FETCH_WAIT_S = 0.05, 0.25
# Between two looks of a wait, so that another thread gets its turn.
LOCK_PAUSE_S = 0.001
METADATA_AGE_MS = 60_000
LOG_APPEND_TIME = 1

logger = logging.getLogger(__name__)


@dataclass
class _Window:
    """What has come of a partition, from `next_offset` on; `fetched_to` is the offset that the client fetches next."""

    next_offset: int
    fetched_to: int
    records: deque[Record] = field(default_factory=deque)
    size: int = 0
    is_out_of_range: bool = False

    def holds(self, offset: int) -> bool:
        """Whether the records from `offset` on are here or will come next."""
        return not self.is_out_of_range and self.next_offset <= offset <= self.fetched_to

    def advance(self, offset: int) -> None:
        """Lets go of the records before `offset`."""
        self.next_offset = offset
        while self.records and self.records[0].offset < offset:
            self.size -= len(self.records.popleft().value)

    def add(self, record: Record) -> None:
        self.records.append(record)
        self.size += len(record.value)

    def head(self, max_records: int, max_bytes: int) -> list[Record]:
        """The first records, at least one if there is any."""
        found: list[Record] = []
        size = 0
        for record in self.records:
            size += len(record.value)
            if found and (size > max_bytes or len(found) >= max_records):
                break
            found.append(record)
        return found


class KafkaTopicConsumer:
    """Connects when it is first asked. See the module."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings, self._topic = settings, topic
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._client: KafkaConsumer | None = None
        self._partitions: list[TopicPartition] = []
        self._windows: dict[int, _Window] = {}
        self._has_warned = False
        self._progress = Progress(settings, topic)

    def partitions(self) -> list[int]:
        with self._connected():
            return [partition.partition for partition in self._partitions]

    def first_offset(self, partition: int) -> int:
        with self._connected() as client:
            return self._first(client, self._named(partition))

    def end_offset(self, partition: int) -> int:
        with self._connected() as client:
            return self._end(client, self._named(partition))

    def read(
        self, partition: int, next_offset: int, max_records: int = 256, max_bytes: int = MAX_READ_BYTES
    ) -> list[Record]:
        with self._connected() as client:
            named = self._named(partition)
            window = self._window(client, named, next_offset)
            if not window.records:
                self._fill(client, named, window)
            return window.head(max_records, max_bytes)

    def wait(self, next_offsets: Mapping[int, int], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not self._closed.is_set():
            try:
                found = self._look(next_offsets, deadline)
            except EventLogUnavailable:
                if self._closed.is_set():
                    break
                raise
            if found is not None:
                return found
            self._closed.wait(LOCK_PAUSE_S)
        return False

    def _look(self, next_offsets: Mapping[int, int], deadline: float) -> bool | None:
        """Whether there is something to read; None while something may still come."""
        with self._connected() as client:
            windows = [self._window(client, self._named(p), offset) for p, offset in next_offsets.items()]
            remaining_s = deadline - time.monotonic()
            if self._has_news(windows):
                return True
            if remaining_s <= 0:
                # An offset beyond the end counts: the read that follows reports it.
                return any(self._end(client, self._named(p)) != offset for p, offset in next_offsets.items())
            self._poll(client, min(remaining_s, LONGEST_POLL_S))
            return self._has_news(windows) or (None if time.monotonic() < deadline else False)

    def report(self, group: str, next_offsets: Mapping[int, int]) -> None:
        with self._lock:
            self._progress.report(group, next_offsets)

    @staticmethod
    def _has_news(windows: list[_Window]) -> bool:
        return any(window.records or window.is_out_of_range for window in windows)

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            self._drop()
            self._progress.close()

    @contextmanager
    def _connected(self) -> Iterator[KafkaConsumer]:
        """The client, for one call at a time; a failure drops it."""
        with self._lock:
            if self._closed.is_set():
                raise EventLogUnavailable(f"the consumer of {self._topic} is closed")
            try:
                with errors_of(self._topic):
                    self._client = self._client or self._connect()
                    self._check_partitions(self._client)
                    yield self._client
            except (OffsetOutOfRange, LookupError):
                raise
            except BaseException:
                self._drop()
                raise

    def _connect(self) -> KafkaConsumer:
        timeout_s = self._settings.request_timeout_s
        try:
            client = connect(
                KafkaConsumer,
                self._settings,
                timeout_s,
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
                allow_auto_create_topics=False,
                metadata_max_age_ms=METADATA_AGE_MS,
                fetch_max_bytes=FETCH_BYTES,
                max_partition_fetch_bytes=MAX_READ_BYTES,
                fetch_max_wait_ms=round(min(LONGEST_FETCH_WAIT_S, timeout_s / 2) * 1000),
                request_timeout_ms=round(timeout_s * 1000),
                metrics_enabled=False,
            )
        except ConfigurationInvalid as error:
            raise EventLogUnavailable(error.message) from error
        try:
            self._assign(client)
        except BaseException:
            client.close(timeout_ms=0)
            raise
        return client

    def _assign(self, client: KafkaConsumer) -> None:
        """All partitions, each paused until a position in it is asked for."""
        found = client.partitions_for_topic(self._topic)
        if not found:
            raise EventLogUnavailable(f"Kafka has no topic {self._topic}: `attune topics create` makes it")
        self._partitions = self._partitions or [TopicPartition(self._topic, number) for number in sorted(found)]
        client.assign(self._partitions)
        for partition in self._partitions:
            client.seek(partition, 0)
        client.pause(*self._partitions)

    def _check_partitions(self, client: KafkaConsumer) -> None:
        """By what the client last heard, which is a minute old at most."""
        number = len(client.partitions_for_topic(self._topic))
        if number > len(self._partitions):
            raise TopicChanged(f"{self._topic} has {number} partitions; {len(self._partitions)} when reading began")

    def _drop(self) -> None:
        self._windows.clear()
        if self._client is not None:
            self._client.close(timeout_ms=0)
            self._client = None

    def _named(self, partition: int) -> TopicPartition:
        """LookupError if the topic has no such partition."""
        named = TopicPartition(self._topic, partition)
        if named not in self._partitions:
            raise KeyError(partition)
        return named

    def _window(self, client: KafkaConsumer, partition: TopicPartition, next_offset: int) -> _Window:
        """The window of a partition, from `next_offset` on."""
        window = self._windows.get(partition.partition)
        if window is None or not window.holds(next_offset):
            window = self._windows[partition.partition] = _Window(next_offset, next_offset)
            client.seek(partition, next_offset)
            client.resume(partition)
        window.advance(next_offset)
        return window

    def _fill(self, client: KafkaConsumer, partition: TopicPartition, window: _Window) -> None:
        """Waits for the records that are there; OffsetOutOfRange if the position is none of this partition."""
        end = self._raw_end(client, partition)
        deadline = time.monotonic() + self._settings.request_timeout_s
        while window.next_offset <= end and not window.records and window.fetched_to < end:
            if window.is_out_of_range:
                break
            if time.monotonic() >= deadline:
                raise EventLogUnavailable(f"{partition.topic}: no answer in {self._settings.request_timeout_s:g} s")
            self._poll(client, LONGEST_POLL_S)
            if not window.records:
                window.fetched_to = client.position(partition)
        if window.is_out_of_range or window.next_offset > end:
            first = self._first(client, partition)
            raise OffsetOutOfRange.at(self._topic, partition.partition, window.next_offset, first, end)

    def _poll(self, client: KafkaConsumer, timeout_s: float) -> None:
        """Takes what has come into the windows; full ones are paused, so that memory is bounded."""
        for named in self._partitions:
            window = self._windows.get(named.partition)
            if window is not None and not window.is_out_of_range:
                (client.pause if window.size >= WINDOW_BYTES else client.resume)(named)
        try:
            polled = client.poll(timeout_ms=timeout_s * 1000)
        except OffsetOutOfRangeError as error:
            for named in error.args[0]:
                self._windows[named.partition].is_out_of_range = True
                client.pause(named)
            return
        for named, records in polled.items():
            window = self._windows[named.partition]
            for record in records:
                self._check_time(record.timestamp_type)
                window.add(Record(named.partition, record.offset, record.timestamp / 1000, record.value or b""))
            window.fetched_to = records[-1].offset + 1

    def _check_time(self, timestamp_type: int) -> None:
        if timestamp_type != LOG_APPEND_TIME and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "%s holds records with their sender's time, not the log's: `attune topics check` says what to set",
                self._topic,
            )

    def _first(self, client: KafkaConsumer, partition: TopicPartition) -> int:
        offsets = client.beginning_offsets([partition], timeout_ms=self._settings.request_timeout_s * 1000)
        return int(offsets[partition])

    def _end(self, client: KafkaConsumer, partition: TopicPartition) -> int:
        """The end as the caller sees it: without what nobody can read behind its position."""
        end = self._raw_end(client, partition)
        window = self._windows.get(partition.partition)
        if window is not None and not window.records and window.next_offset < end == window.fetched_to:
            return window.next_offset
        return end

    def _raw_end(self, client: KafkaConsumer, partition: TopicPartition) -> int:
        offsets = client.end_offsets([partition], timeout_ms=self._settings.request_timeout_s * 1000)
        return int(offsets[partition])
