"""Dead letters read once each, and written back to where they came from."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from attune.api.events.v1 import events_pb2
from attune.domain.errors import TopicHasWriter
from attune.domain.feedback import AcceptedFeedback, Rating
from attune.feedback.join.dead_letters import MAX_RECORD_ENTRIES, read_letters, subject_of, write_back
from attune.feedback.join.records import WHOLE_RECORD
from attune.platform.events.log import Topic
from attune.platform.events.memory import MemoryEventLog
from feedback_samples import APP, NOON_S, a_generation, an_event, completion


def entry(number: int = 1, subject_id: str = "ann") -> bytes:
    return AcceptedFeedback(an_event(number, subject_id=subject_id), NOON_S).to_proto().SerializeToString()


def a_letter(value: bytes, offset: int = 0, index: int = 0, topic: str = Topic.FEEDBACK) -> bytes:
    letter = events_pb2.DeadLetter(
        topic=topic, partition=0, offset=offset, index=index, reason="ENTRY_INVALID", detail="why", value=value
    )
    letter.time.FromSeconds(round(NOON_S))
    return letter.SerializeToString()


def a_log(*letters: bytes) -> MemoryEventLog:
    log = MemoryEventLog(partitions=2)
    producer = log.producer(Topic.DEAD_LETTERS)
    producer.append(letters)
    producer.close()
    return log


def nobody(people: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    return set()


def events_in(log: MemoryEventLog) -> list[str]:
    consumer = log.consumer(Topic.FEEDBACK)
    values = [record.value for number in consumer.partitions() for record in consumer.read(number, 0)]
    return [
        accepted.event.event_id for value in values for accepted in events_pb2.FeedbackBatch.FromString(value).events
    ]


def test_a_letter_that_was_handed_over_twice_is_one() -> None:
    log = a_log(a_letter(entry(1), offset=4), a_letter(entry(1), offset=4), a_letter(entry(2), offset=4, index=1))
    assert sorted(letter.place for letter in read_letters(log)) == ["attune.feedback/0@4[0]", "attune.feedback/0@4[1]"]


def test_a_letter_tells_all_but_what_was_said() -> None:
    (letter,) = read_letters(a_log(a_letter(b"garbled", offset=3, index=WHOLE_RECORD)))
    assert (letter.place, letter.reason, letter.time) == ("attune.feedback/0@3", "ENTRY_INVALID", NOON_S)


def test_entries_go_back_to_their_topics_in_few_records() -> None:
    generation = a_generation(7).to_proto()
    letters = [a_letter(entry(n), offset=n) for n in range(MAX_RECORD_ENTRIES + 1)]
    log = a_log(*letters, a_letter(generation.SerializeToString(), topic=Topic.GENERATIONS))
    report = write_back(log, read_letters(log), nobody)
    assert report.written == MAX_RECORD_ENTRIES + 2
    assert set(events_in(log)) == {an_event(n).event_id for n in range(MAX_RECORD_ENTRIES + 1)}
    assert sum(log.consumer(Topic.FEEDBACK).end_offset(number) for number in (0, 1)) == 2
    (record,) = log.consumer(Topic.GENERATIONS).read(0, 0)
    assert list(events_pb2.GenerationBatch.FromString(record.value).generations) == [generation]


def test_erased_people_and_whole_records_stay_out() -> None:
    log = a_log(
        a_letter(entry(1), offset=1),
        a_letter(entry(2, subject_id="eve"), offset=2),
        a_letter(b"\xff", offset=3, index=WHOLE_RECORD),
    )
    report = write_back(log, read_letters(log), lambda people: {p for p in people if p == (APP, "eve")})
    assert (report.written, report.erased, report.whole_records) == (1, 1, 1)
    assert events_in(log) == [an_event(1).event_id]


def test_nothing_is_written_while_another_writes_one_of_the_topics() -> None:
    generation = a_letter(a_generation(7).to_proto().SerializeToString(), topic=Topic.GENERATIONS)
    log = a_log(a_letter(entry(1)), generation)
    ingest = log.producer(Topic.FEEDBACK)
    with pytest.raises(TopicHasWriter):
        write_back(log, read_letters(log), nobody)
    ingest.close()
    assert log.consumer(Topic.GENERATIONS).end_offset(0) == 0
    assert write_back(log, read_letters(log), nobody).written == 2


def test_the_person_of_an_entry_is_found_though_it_is_invalid() -> None:
    accepted = AcceptedFeedback(an_event(1, Rating(completion(1), 1.0)), NOON_S).to_proto()
    accepted.event.rating.value = 7.0
    generation = a_generation(1, subject_id="bob").to_proto()
    letters = read_letters(
        a_log(
            a_letter(accepted.SerializeToString()),
            a_letter(generation.SerializeToString(), topic=Topic.GENERATIONS),
        )
    )
    assert sorted(map(subject_of, letters)) == [(APP, "ann"), (APP, "bob")]
