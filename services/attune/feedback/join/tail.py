"""Reads both topics as one stream in the order of log time.

A batch never runs ahead of a partition that has more to give: records later than what such a partition has shown are
left for the next batch. So a replay meets the whole log in one order, whatever the sizes of its batches, and numbers
examples the same way each time; a live join meets it in that order as far as records become readable in it. Where log
time falls within a partition (clocks of brokers differ), a record has its turn with the latest one before it: the order
of offsets goes first, or a record could be passed over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

from attune.feedback.join.store import Advance
from attune.platform.events.log import Consumer, Record, Topic

MICROSECONDS = 1_000_000
NEVER_US = 2**63
WAIT_STEP_S = 0.02


@dataclass
class Partition:
    """How far one partition was read. `read_us` is the log time up to which nothing unread can stand."""

    topic: Topic
    number: int
    consumer: Consumer
    next_offset: int
    read_us: int = 0
    is_at_end: bool = False
    lag_records: int = 0


@dataclass(frozen=True)
class Batch:
    """Records of all partitions in the order of log time, and how far they take each partition."""

    records: tuple[tuple[Topic, Record], ...]
    advances: tuple[Advance, ...]


class Tail:
    """The reading position in both topics. `offset_of(topic, partition, first_offset)` gives the stored one.

    `clock_slack_s`: how much earlier than this clock a record may still be stamped when it appears.
    """

    def __init__(
        self,
        consumers: dict[Topic, Consumer],
        offset_of: Callable[[str, int, int], int],
        *,
        batch_records: int = 512,
        clock: Callable[[], float] = time.time,
        clock_slack_s: float = 5.0,
    ) -> None:
        self._consumers, self._batch_records = consumers, batch_records
        self._clock, self._clock_slack_s = clock, clock_slack_s
        self.partitions = [
            Partition(topic, number, consumer, offset_of(topic, number, consumer.first_offset(number)))
            for topic, consumer in consumers.items()
            for number in consumer.partitions()
        ]

    def read(self) -> Batch:
        """The next records; none when everything is read. Positions move only with `advance`."""
        now_us = round((self._clock() - self._clock_slack_s) * MICROSECONDS)
        found = [(p, p.consumer.read(p.number, p.next_offset, self._batch_records)) for p in self.partitions]
        frontiers: list[tuple[int, int]] = []
        for order, (partition, records) in enumerate(found):
            read_to = records[-1].offset + 1 if records else partition.next_offset
            end = partition.consumer.end_offset(partition.number)
            partition.lag_records = end - partition.next_offset
            partition.is_at_end = read_to == end
            if not records and partition.is_at_end:
                partition.read_us = max(partition.read_us, now_us)
            if records and not partition.is_at_end:
                frontiers.append((_turns_us(records)[-1], order))
        return _merge(found, min(frontiers, default=(NEVER_US, 0)))

    def advance(self, batch: Batch) -> None:
        """Takes over the positions of a committed batch."""
        last_us: dict[tuple[str, int], int] = {}
        for topic, record in batch.records:
            last_us[topic, record.partition] = time_us(record)
        for moved in batch.advances:
            for partition in self.partitions:
                if (partition.topic, partition.number) == (moved.topic, moved.partition):
                    partition.next_offset = moved.new
                    partition.lag_records -= moved.new - moved.old
                    partition.read_us = max(partition.read_us, last_us[moved.topic, moved.partition])

    def read_us(self, topic: Topic) -> int:
        """Log time up to which the topic is read whole, microseconds."""
        return min(p.read_us for p in self.partitions if p.topic == topic)

    def lag_records(self, topic: Topic) -> int:
        """Records of the topic that are not yet committed, as of the last read."""
        return sum(p.lag_records for p in self.partitions if p.topic == topic)

    def end_offset(self, topic: Topic, partition: int) -> int:
        """The offset that the next record of a partition will get; may be asked from any thread."""
        return self._consumers[topic].end_offset(partition)

    def lag_s(self, topic: Topic) -> float:
        """Age of the log time up to which the topic is read, while something is unread; else 0."""
        if self.lag_records(topic) == 0:
            return 0.0
        oldest_us = min(p.read_us for p in self.partitions if p.topic == topic and p.lag_records)
        return max(0.0, self._clock() - oldest_us / MICROSECONDS) if oldest_us else 0.0

    def wait(self, timeout_s: float, stop: threading.Event) -> None:
        """Returns when one of the topics may have news, when asked to stop, or after about `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not stop.is_set() and time.monotonic() < deadline:
            for topic, consumer in self._consumers.items():
                here = {p.number: p.next_offset for p in self.partitions if p.topic == topic}
                if consumer.wait(here, min(timeout_s, WAIT_STEP_S)):
                    return

    def report(self, group: str) -> None:
        """Tells those who operate the event log how far this reader is."""
        for topic, consumer in self._consumers.items():
            consumer.report(group, {p.number: p.next_offset for p in self.partitions if p.topic == topic})

    def close(self) -> None:
        """Releases the consumers."""
        for consumer in self._consumers.values():
            consumer.close()


def _merge(found: list[tuple[Partition, list[Record]]], frontier: tuple[int, int]) -> Batch:
    """Records up to the frontier, a log time and the rank of its partition among equals, in order."""
    chosen: list[tuple[int, int, int, int, Topic, Record]] = []
    advances = []
    for order, (partition, records) in enumerate(found):
        within = [(turn, r) for turn, r in zip(_turns_us(records), records, strict=True) if (turn, order) <= frontier]
        chosen += [(turn, order, r.partition, r.offset, partition.topic, r) for turn, r in within]
        if within:
            last = within[-1][1].offset
            advances.append(Advance(partition.topic, partition.number, partition.next_offset, last + 1))
    chosen.sort(key=lambda item: item[:4])
    return Batch(tuple((topic, record) for *_, topic, record in chosen), tuple(advances))


def _turns_us(records: list[Record]) -> list[int]:
    """The time of each record in the merge: its log time, or that of an earlier record if that is later."""
    return list(accumulate(map(time_us, records), max))


def time_us(record: Record) -> int:
    """When the log took a record, microseconds."""
    return round(record.append_time * MICROSECONDS)
