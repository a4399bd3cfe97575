"""Dead letters: what the join set aside, read from their topic and written back to where they came from.

A letter holds its entry, or its whole record, as it stood. The join may write a letter twice, for it hands letters over
before it commits; so letters count by the place they tell. An entry that is written back is judged anew, at the end of
its topic. An event whose id the join knows by then counts once, so that a second replay changes nothing.

Never written back: what people said who have been erased since, which would stand in the log for its whole retention
again, and whole records, for nobody can tell whose words are in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from attune.api.events.v1 import events_pb2
from attune.api.types.v1 import generations_pb2
from attune.domain.times import from_timestamp
from attune.feedback.join.records import WHOLE_RECORD
from attune.platform.events.log import Consumer, EventLog, Record, Topic

MAX_RECORD_BYTES, MAX_RECORD_ENTRIES = 512 * 1024, 1000
Subject = tuple[str, str]


@dataclass(frozen=True)
class DeadLetter:
    """An entry that was set aside; `index` is WHOLE_RECORD for a record that could not be read, `time` in seconds."""

    topic: str
    partition: int
    offset: int
    index: int
    reason: str
    detail: str
    value: bytes
    time: float

    @property
    def place(self) -> str:
        """Where it stood, such as attune.feedback/0@17[3]."""
        entry = "" if self.index == WHOLE_RECORD else f"[{self.index}]"
        return f"{self.topic}/{self.partition}@{self.offset}{entry}"

    @classmethod
    def from_proto(cls, proto: events_pb2.DeadLetter) -> DeadLetter:
        return cls(
            topic=proto.topic,
            partition=proto.partition,
            offset=proto.offset,
            index=proto.index,
            reason=proto.reason,
            detail=proto.detail,
            value=proto.value,
            time=from_timestamp(proto.time),
        )


@dataclass(frozen=True)
class ReplayReport:
    """How many letters were written back, and how many were not and why."""

    written: int
    erased: int
    whole_records: int


def read_letters(log: EventLog) -> Iterator[DeadLetter]:
    """Every letter that the log still holds, once, in the order of each partition."""
    consumer = log.consumer(Topic.DEAD_LETTERS)
    seen: set[str] = set()
    try:
        for partition in consumer.partitions():
            for record in _records(consumer, partition):
                letter = DeadLetter.from_proto(events_pb2.DeadLetter.FromString(record.value))
                if letter.place not in seen:
                    seen.add(letter.place)
                    yield letter
    finally:
        consumer.close()


def write_back(
    log: EventLog, letters: Iterable[DeadLetter], erased_among: Callable[[Iterable[Subject]], set[Subject]]
) -> ReplayReport:
    """Appends the entries of the letters to the topics they came from.

    TopicHasWriter, before anything is written, if another process writes one of them: on the embedded event log ingest
    writes attune.feedback and the policy server attune.generations, so that those must be stopped first.
    """
    chosen = list(letters)
    entries = [letter for letter in chosen if letter.index != WHOLE_RECORD]
    erased = erased_among(map(subject_of, entries))
    kept = [letter for letter in entries if subject_of(letter) not in erased]
    with ExitStack() as stack:
        producers = {}
        for topic in sorted({letter.topic for letter in kept}):
            producers[topic] = log.producer(topic)
            stack.callback(producers[topic].close)
        for topic, producer in producers.items():
            producer.append(list(_values(topic, [letter.value for letter in kept if letter.topic == topic])))
    return ReplayReport(len(kept), len(entries) - len(kept), len(chosen) - len(entries))


def subject_of(letter: DeadLetter) -> Subject:
    """The app and the person whose words the entry of a letter holds."""
    if letter.topic == Topic.GENERATIONS:
        generation = generations_pb2.Generation.FromString(letter.value)
        return generation.app_id, generation.subject_id
    event = events_pb2.AcceptedFeedback.FromString(letter.value).event
    return event.app_id, event.subject_id


def _records(consumer: Consumer, partition: int) -> Iterator[Record]:
    offset = consumer.first_offset(partition)
    while records := consumer.read(partition, offset):
        yield from records
        offset = records[-1].offset + 1


def _values(topic: str, entries: Sequence[bytes]) -> Iterator[bytes]:
    """Values of records that hold the entries, each as large as records of the log usually are."""
    group: list[bytes] = []
    size = 0
    for entry in entries:
        if group and (len(group) >= MAX_RECORD_ENTRIES or size + len(entry) > MAX_RECORD_BYTES):
            yield _batch(topic, group)
            group, size = [], 0
        group.append(entry)
        size += len(entry)
    yield _batch(topic, group)


def _batch(topic: str, entries: Sequence[bytes]) -> bytes:
    if topic == Topic.GENERATIONS:
        generations = map(generations_pb2.Generation.FromString, entries)
        return events_pb2.GenerationBatch(generations=generations).SerializeToString()
    events = map(events_pb2.AcceptedFeedback.FromString, entries)
    return events_pb2.FeedbackBatch(events=events).SerializeToString()
