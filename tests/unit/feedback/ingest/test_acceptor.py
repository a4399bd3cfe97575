"""Group commit, repeats, conflicts, refusals and the drain, against small real logs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from attune.domain.errors import AttuneError, EventLogUnavailable, FeedbackConflict, InvalidInput, QueueFull
from attune.domain.feedback import Demonstration, FeedbackEvent, Rating
from attune.feedback.ingest.acceptor import Acceptor, Outcome, Receipt, Submission
from attune.feedback.ingest.reading import RefusedEvent
from attune.platform.events.log import Topic
from attune.platform.events.memory import MemoryEventLog
from attune.platform.events.sqlite import SqliteEventLog
from feedback_samples import NOON_S, an_event, an_id, completion
from support.eventually import eventually
from unit.feedback.ingest.gated import PATIENCE_S, GatedProducer, received, stored

OTHER = Rating(completion(1), 0.0)


def submit(acceptor: Acceptor, *events: FeedbackEvent) -> Submission:
    return acceptor.submit([received(event) for event in events])


async def outcomes_of(submission: Submission) -> list[Outcome]:
    await submission.wait(PATIENCE_S)
    return submission.outcomes


async def outcome_of(acceptor: Acceptor, event: FeedbackEvent) -> Outcome:
    (outcome,) = await outcomes_of(submit(acceptor, event))
    return outcome


def kinds(outcomes: Iterable[Outcome]) -> list[type[Outcome]]:
    return [type(outcome) for outcome in outcomes]


async def test_an_event_is_confirmed_once_the_log_has_it(log: MemoryEventLog, gated: GatedProducer) -> None:
    async with Acceptor(gated, clock=lambda: NOON_S) as acceptor:
        submission = submit(acceptor, an_event())
        await eventually(gated.is_writing.is_set)
        assert not submission.is_settled
        gated.gate.set()
        assert await outcomes_of(submission) == [Receipt(an_id(1001), NOON_S, repeated_event=False)]
    assert stored(log) == [[an_id(1001)]]


async def test_events_that_come_during_a_write_share_the_next_one(log: MemoryEventLog, gated: GatedProducer) -> None:
    async with Acceptor(gated) as acceptor:
        first = submit(acceptor, an_event(0))
        await eventually(gated.is_writing.is_set)
        others = [submit(acceptor, an_event(number), an_event(100 + number)) for number in range(1, 25)]
        gated.gate.set()
        for submission in (first, *others):
            assert set(kinds(await outcomes_of(submission))) == {Receipt}
    assert [len(record) for record in stored(log)] == [1, 48]


async def test_commits_keep_their_distance_and_share_what_comes_between(
    log: MemoryEventLog, gated: GatedProducer
) -> None:
    gated.gate.set()
    async with Acceptor(gated, pace=lambda: 0.2) as acceptor:
        started = asyncio.get_running_loop().time()
        await outcome_of(acceptor, an_event(0))
        assert asyncio.get_running_loop().time() - started < 0.2
        waiting = [submit(acceptor, an_event(1))]
        await asyncio.sleep(0)
        waiting.append(submit(acceptor, an_event(2)))
        for submission in waiting:
            await outcomes_of(submission)
    assert [len(record) for record in stored(log)] == [1, 2]


async def test_a_repeat_is_confirmed_with_the_first_receipt_and_not_written(
    log: MemoryEventLog, gated: GatedProducer
) -> None:
    gated.gate.set()
    async with Acceptor(gated, clock=iter([1.0, 2.0, 3.0]).__next__) as acceptor:
        first = await outcome_of(acceptor, an_event())
        again = await outcome_of(acceptor, an_event())
    assert (first, again) == (Receipt(an_id(1001), 1.0, False), Receipt(an_id(1001), 1.0, True))
    assert stored(log) == [[an_id(1001)]]


async def test_another_body_under_a_stored_id_is_a_conflict(log: MemoryEventLog, gated: GatedProducer) -> None:
    gated.gate.set()
    async with Acceptor(gated) as acceptor:
        await outcome_of(acceptor, an_event())
        conflict = await outcome_of(acceptor, an_event(1, OTHER))
        assert isinstance(conflict, FeedbackConflict)
        assert conflict.metadata == {"event_id": an_id(1001)}
        assert isinstance(await outcome_of(acceptor, an_event(1, OTHER, app_id="other")), Receipt)
    assert len(stored(log)) == 2


async def test_events_in_flight_with_one_id_share_the_fate_of_the_first(
    log: MemoryEventLog, gated: GatedProducer
) -> None:
    async with Acceptor(gated) as acceptor:
        submission = submit(acceptor, an_event(), an_event())
        elsewhere = submit(acceptor, an_event(), an_event(1, OTHER), an_event(2))
        assert not submission.is_settled
        gated.gate.set()
        assert [outcome.repeated_event for outcome in await outcomes_of(submission)] == [False, True]
        assert kinds(await outcomes_of(elsewhere)) == [Receipt, FeedbackConflict, Receipt]
    assert stored(log) == [[an_id(1001), an_id(1002)]]


async def test_a_failed_write_confirms_and_remembers_nothing(log: MemoryEventLog, gated: GatedProducer) -> None:
    gated.error = EventLogUnavailable("no space")
    async with Acceptor(gated) as acceptor:
        submission = submit(acceptor, an_event(), an_event(), an_event(1, OTHER))
        gated.gate.set()
        for outcome in await outcomes_of(submission):
            assert isinstance(outcome, EventLogUnavailable)
            assert outcome.retry_after_s
            assert "no space" not in outcome.message
        gated.error = None
        assert (await outcome_of(acceptor, an_event())).repeated_event is False
    assert stored(log) == [[an_id(1001)]]


async def test_what_was_refused_before_stays_refused_beside_the_others(gated: GatedProducer) -> None:
    gated.gate.set()
    bad = InvalidInput("bad")
    async with Acceptor(gated) as acceptor:
        submission = acceptor.submit([RefusedEvent("none", bad), received(an_event()), RefusedEvent("none", bad)])
        first, second, third = await outcomes_of(submission)
        assert first is third is bad
        assert isinstance(second, Receipt)
        assert await outcomes_of(acceptor.submit([])) == []


async def test_the_queue_is_bounded_in_events_repeats_included(gated: GatedProducer) -> None:
    async with Acceptor(gated, queue_events=3) as acceptor:
        waiting = submit(acceptor, an_event(1), an_event(2), an_event(1))
        (refused,) = await outcomes_of(submit(acceptor, an_event(9)))
        assert isinstance(refused, QueueFull)
        assert refused.retry_after_s
        gated.gate.set()
        assert kinds(await outcomes_of(waiting)) == [Receipt] * 3
        assert isinstance(await outcome_of(acceptor, an_event(9)), Receipt)


async def test_the_queue_is_bounded_in_bytes(gated: GatedProducer) -> None:
    long = Demonstration(completion(1), "x" * 60_000)
    async with Acceptor(gated, queue_bytes=200_000) as acceptor:
        waiting = submit(acceptor, *(an_event(number, long) for number in range(5)))
        gated.gate.set()
        assert kinds(await outcomes_of(waiting)) == [Receipt] * 3 + [QueueFull] * 2
        assert isinstance(await outcome_of(acceptor, an_event(9, long)), Receipt)


async def test_an_event_the_log_does_not_answer_for_is_told_so_and_may_still_be_stored(
    log: MemoryEventLog, gated: GatedProducer
) -> None:
    async with Acceptor(gated) as acceptor:
        submission = submit(acceptor, an_event())
        await submission.wait(0.01)
        (late,) = submission.outcomes
        assert isinstance(late, EventLogUnavailable)
        assert late.retry_after_s
        gated.gate.set()
        assert (await outcome_of(acceptor, an_event())).repeated_event is True
    assert stored(log) == [[an_id(1001)]]


async def test_leaving_drains_the_queue_and_then_refuses(log: MemoryEventLog, gated: GatedProducer) -> None:
    async with Acceptor(gated, pace=lambda: 60.0) as acceptor:
        first = submit(acceptor, an_event(99))
        await eventually(gated.is_writing.is_set)
        others = submit(acceptor, *(an_event(number) for number in range(20)))
        threading.Timer(0.0, gated.gate.set).start()
    assert kinds([*first.outcomes, *others.outcomes]) == [Receipt] * 21
    assert sum(map(len, stored(log))) == 21
    (refused,) = submit(acceptor, an_event(50)).outcomes
    assert isinstance(refused, EventLogUnavailable)


async def test_ids_are_forgotten_from_the_oldest_on(gated: GatedProducer) -> None:
    gated.gate.set()
    async with Acceptor(gated, remembered_events=2) as acceptor:
        for number in (1, 2, 1, 3):
            await outcome_of(acceptor, an_event(number))
        assert (await outcome_of(acceptor, an_event(1))).repeated_event is True
        assert (await outcome_of(acceptor, an_event(2))).repeated_event is False


async def test_an_error_nobody_expects_ends_the_writer_and_fails_every_caller(gated: GatedProducer) -> None:
    gated.error = RuntimeError("a bug")
    async with Acceptor(gated) as acceptor:
        submission = submit(acceptor, an_event())
        await eventually(gated.is_writing.is_set)
        queued = submit(acceptor, an_event(2), an_event(1))
        gated.gate.set()
        with pytest.raises(RuntimeError, match="a bug"):
            await acceptor.failure()
        assert kinds([*submission.outcomes, *queued.outcomes]) == [EventLogUnavailable] * 3
        assert isinstance(await outcome_of(acceptor, an_event(3)), EventLogUnavailable)


async def test_who_stops_listening_for_a_failure_does_not_end_the_writer(gated: GatedProducer) -> None:
    gated.gate.set()
    async with Acceptor(gated) as acceptor:
        listening = asyncio.create_task(acceptor.failure())
        await asyncio.sleep(0)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        assert isinstance(await outcome_of(acceptor, an_event()), Receipt)


async def test_a_caller_who_goes_away_cannot_cancel_the_write(log: MemoryEventLog, gated: GatedProducer) -> None:
    async with Acceptor(gated) as acceptor:
        waiting = asyncio.create_task(submit(acceptor, an_event()).wait(PATIENCE_S))
        await eventually(gated.is_writing.is_set)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        gated.gate.set()
    assert stored(log) == [[an_id(1001)]]


async def test_a_full_disk_refuses_and_a_freed_one_accepts(tmp_path: Path) -> None:
    long = Demonstration(completion(1), "x" * 20_000)
    events = {number: an_event(number, long) for number in range(30)}

    async def sent(log: SqliteEventLog, numbers: Iterable[int]) -> dict[int, Outcome]:
        producer = log.producer(Topic.FEEDBACK)
        async with Acceptor(producer) as acceptor:
            found = {number: await outcome_of(acceptor, events[number]) for number in numbers}
        producer.close()
        return found

    small = SqliteEventLog(tmp_path, max_bytes=200_000)
    found = await sent(small, events)
    refused = [number for number, outcome in found.items() if isinstance(outcome, AttuneError)]
    assert refused
    assert {name for record in stored(small) for name in record} == {
        events[number].event_id for number in events if number not in refused
    }
    roomy = SqliteEventLog(tmp_path)
    assert set(kinds((await sent(roomy, refused)).values())) == {Receipt}
    names = [name for record in stored(roomy) for name in record]
    assert sorted(names) == sorted(event.event_id for event in events.values())


async def test_the_same_event_of_another_app_is_another_event(log: MemoryEventLog, gated: GatedProducer) -> None:
    gated.gate.set()
    async with Acceptor(gated) as acceptor:
        found = await outcomes_of(submit(acceptor, an_event(), replace(an_event(), app_id="other")))
    assert [outcome.repeated_event for outcome in found] == [False, False]
    assert sum(map(len, stored(log))) == 2
