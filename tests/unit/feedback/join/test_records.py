"""Reading untrusted records: what is wrong sets aside itself and nothing else."""

from __future__ import annotations

import math

import pytest
from attune.api.events.v1 import events_pb2
from attune.domain.feedback import AcceptedFeedback, FeedbackEvent
from attune.domain.generations import Purpose
from attune.feedback.join.records import feedback_entries, generation_entries
from attune.feedback.join.rows import FeedbackEntry, GenerationEntry, Place
from attune.platform.events.log import Record
from feedback_samples import NOON_S, a_generation, an_event, completion
from hypothesis import given
from hypothesis import strategies as st

NOON_US = round(NOON_S * 1_000_000)


def record(value: bytes) -> Record:
    return Record(partition=2, offset=7, append_time=NOON_S, value=value)


def a_batch(*events: events_pb2.AcceptedFeedback) -> bytes:
    return events_pb2.FeedbackBatch(events=events).SerializeToString()


def accepted(number: int = 1) -> events_pb2.AcceptedFeedback:
    return AcceptedFeedback(an_event(number), NOON_S).to_proto()


def test_entries_know_where_they_stand() -> None:
    entries, bad = feedback_entries(record(a_batch(accepted(1), accepted(2))))
    assert [e.place for e in entries] == [Place(NOON_US, 2, 7, 0), Place(NOON_US, 2, 7, 1)]
    assert isinstance(entries[1], FeedbackEntry)
    assert (FeedbackEvent.from_proto(entries[1].said.event), entries[1].accept_us) == (an_event(2), NOON_US)
    assert bad == []


def test_garbled_bytes_set_aside_the_record() -> None:
    entries, bad = feedback_entries(record(b"\xff\xff\xff"))
    assert entries == []
    assert [(b.reason, b.place.index, b.value) for b in bad] == [("RECORD_GARBLED", -1, b"\xff\xff\xff")]


def test_an_invalid_event_sets_aside_itself_alone() -> None:
    broken = [accepted(number) for number in range(1, 7)]
    broken[0].event.rating.value = math.nan
    broken[1].event.rating.value = 1.5
    broken[2].event.event_id = "not a uuid"
    broken[3].event.subject_id = ""
    broken[4].accept_time.seconds = 10**15
    broken[5].event.occurred_time.seconds = 2**63 - 1
    entries, bad = feedback_entries(record(a_batch(*broken, accepted(9))))
    assert len(entries) == 1
    assert [(b.reason, b.place.index) for b in bad] == [("ENTRY_INVALID", i) for i in range(6)]
    assert events_pb2.AcceptedFeedback.FromString(bad[2].value) == broken[2]


def test_a_ranking_that_names_a_completion_twice_is_set_aside() -> None:
    twice = accepted(1)
    twice.event.ranking.tiers.add(completion_ids=[completion(1), completion(1)])
    _, bad = feedback_entries(record(a_batch(twice)))
    assert "named twice" in bad[0].detail


@pytest.mark.parametrize(
    ("field", "value"), [("id", "x"), ("app_id", ""), ("revision", ""), ("subject_id", "a\0b"), ("purpose", 77)]
)
def test_an_invalid_generation_is_set_aside(field: str, value: str | int) -> None:
    proto = a_generation().to_proto()
    setattr(proto, field, value)
    batch = events_pb2.GenerationBatch(generations=[proto, a_generation(2).to_proto()])
    entries, bad = generation_entries(record(batch.SerializeToString()))
    assert [e.generation.id for e in entries if isinstance(e, GenerationEntry)] == [a_generation(2).id]
    assert [b.reason for b in bad] == ["ENTRY_INVALID"]


def test_completions_must_follow_from_the_generation_and_be_few() -> None:
    strange, many = a_generation(1).to_proto(), a_generation(2, texts=["no"] * 65).to_proto()
    strange.completions[1].id = strange.completions[0].id
    batch = events_pb2.GenerationBatch(generations=[strange, many])
    entries, bad = generation_entries(record(batch.SerializeToString()))
    assert entries == []
    assert ["completions[1].id" in bad[0].detail, "at most 64" in bad[1].detail] == [True, True]


def test_a_recorded_rollout_is_set_aside() -> None:
    rollout = a_generation(purpose=Purpose.ROLLOUT).to_proto()
    entries, bad = generation_entries(record(events_pb2.GenerationBatch(generations=[rollout]).SerializeToString()))
    assert entries == []
    assert [b.reason for b in bad] == ["ROLLOUT_RECORDED"]


@given(st.binary(max_size=200))
def test_no_bytes_raise(value: bytes) -> None:
    for read in (feedback_entries, generation_entries):
        entries, bad = read(record(value))
        assert all(item.reason for item in bad)
        assert entries == [] or isinstance(entries, list)


@given(st.binary(max_size=400), st.integers(0, 400))
def test_no_damaged_event_raises(noise: bytes, at: int) -> None:
    good = a_batch(accepted(1))
    feedback_entries(record(good[:at] + noise + good[at + len(noise) :]))
    generations = events_pb2.GenerationBatch(generations=[a_generation().to_proto()]).SerializeToString()
    generation_entries(record(generations[:at] + noise + generations[at + len(noise) :]))
