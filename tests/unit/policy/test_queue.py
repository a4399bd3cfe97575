"""The queue: who goes first, who is refused, and what is counted. test_engine.py has it in front of an engine."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace

import pytest
from attune.domain.errors import DeadlineUnattainable, QueueFull
from attune.domain.generations import Purpose, Sampling
from attune.modeling.revisions import Held
from attune.policy.jobs import EngineLimits, Job
from attune.policy.metrics import PolicyMetrics
from attune.policy.queue import WAITED_S, JobQueue
from prometheus_client import CollectorRegistry

HELD = Held("policies/support/revisions/1", SimpleNamespace(max_context=1000))


def job(completions: int = 1, purpose: Purpose = Purpose.USER, *, left_s: float = math.inf, waited_s: float = 0) -> Job:
    now, sampling = time.monotonic(), Sampling(max_tokens=10, completions=completions)
    return Job(HELD, (5,), sampling, purpose, deadline=now + left_s, admitted_time=now - waited_s)


def queue(**limits: int) -> JobQueue:
    return JobQueue(EngineLimits(**limits), PolicyMetrics(CollectorRegistry()))


def learned(**limits: int) -> JobQueue:
    """Has seen a token a second, and completions that use their limit."""
    found = queue(**limits)
    found.pace.saw_turn(1.0)
    found.pace.saw_end(1, 1)
    return found


def test_users_are_taken_first_as_far_as_there_is_room() -> None:
    line, rollout, one, two = queue(), job(1, Purpose.ROLLOUT), job(1), job(2)
    for each in (rollout, one, two):
        line.add(each)
    assert line.jobs == [one, two, rollout]
    assert line.take(3, is_idle=False) == [one, two]
    assert line.take(1, is_idle=False) == [rollout]
    assert line.completions == 0


def test_nobody_overtakes_a_large_one_and_an_idle_engine_takes_it_alone() -> None:
    line, large, small = queue(), job(8), job(1, Purpose.ROLLOUT)
    line.add(large)
    line.add(small)
    assert line.take(4, is_idle=False) == []
    assert line.take(4, is_idle=True) == [large]


def test_users_and_rollouts_fill_queues_of_their_own() -> None:
    line = queue(queued=2)
    line.add(job(2, Purpose.ROLLOUT))
    line.add(job(2))
    for purpose in Purpose.USER, Purpose.ROLLOUT:
        with pytest.raises(QueueFull) as raised:
            line.add(job(1, purpose))
        assert raised.value.retry_after_s
    assert line.completions == 4


def test_what_is_dropped_is_counted_no_more_and_what_was_taken_is_not_dropped_again() -> None:
    line, gone, stays = queue(), job(2), job(1)
    line.add(gone)
    line.add(stays)
    line.drop(gone)
    line.drop(gone)
    assert (line.completions, line.jobs) == (1, [stays])
    line.take(9, is_idle=True)
    line.drop(stays)
    assert line.completions == 0


def test_a_deadline_that_comes_before_the_turn_is_refused_unless_nothing_is_ahead() -> None:
    line = learned(running=1)
    line.add(job(left_s=0))
    with pytest.raises(DeadlineUnattainable) as raised:
        line.add(job(left_s=29))
    assert raised.value.retry_after_s == pytest.approx(1.0, abs=0.5)
    line.add(job(left_s=31))


def test_room_can_be_asked_for_before_there_is_a_job() -> None:
    line, soon = learned(running=1, queued=2), time.monotonic()
    line.check_room(1, 10, Purpose.USER, soon)
    line.add(job())
    with pytest.raises(DeadlineUnattainable):
        line.check_room(1, 10, Purpose.USER, soon)
    with pytest.raises(QueueFull):
        line.check_room(2, 10, Purpose.USER, math.inf)
    line.check_room(2, 10, Purpose.ROLLOUT, math.inf)
    assert line.completions == 1


def test_rollouts_that_wait_are_not_ahead_of_a_user() -> None:
    line = learned(running=1)
    line.add(job(5, Purpose.ROLLOUT))
    line.add(job(left_s=11))
    with pytest.raises(DeadlineUnattainable):
        line.add(job(1, Purpose.ROLLOUT, left_s=11))


def test_who_has_waited_too_long_is_late_and_who_was_taken_at_once_never() -> None:
    line = learned()
    waited_s = 2 * WAITED_S
    assert isinstance(line.lateness(job(left_s=9, waited_s=waited_s)), DeadlineUnattainable)
    assert line.lateness(job(left_s=11, waited_s=waited_s)) is None
    assert line.lateness(job(left_s=9)) is None
