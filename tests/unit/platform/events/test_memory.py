"""What only the log in memory does: several partitions."""

from __future__ import annotations

from attune.platform.events.log import Topic
from attune.platform.events.memory import MemoryEventLog


def test_values_are_spread_over_the_partitions_in_turn() -> None:
    log = MemoryEventLog(partitions=3)
    positions = log.producer(Topic.FEEDBACK).append([b"a", b"b", b"c", b"d"])
    assert [(p.partition, p.offset) for p in positions] == [(0, 0), (1, 0), (2, 0), (0, 1)]
    consumer = log.consumer(Topic.FEEDBACK)
    assert consumer.partitions() == [0, 1, 2]
    assert [r.value for r in consumer.read(0, 0)] == [b"a", b"d"]
    assert consumer.wait({0: 2, 1: 0}, 0.0)
    assert not consumer.wait({0: 2, 1: 1, 2: 1}, 0.0)
