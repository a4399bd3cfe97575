"""The queue in front of an engine: users before rollouts, bounded for each, and only what can still be done in time.

What cannot be done by its deadline, judged by the pace so far, is refused: when it comes, or by `check_room` before it
has a prompt, and again when its turn has come, before its prompt costs anything. A job that need not wait is always
tried: it may end early, and a stream is of use from its first token. Not safe for threads: an engine that has several
asks under a lock of its own.
"""

from __future__ import annotations

import time
from collections import deque

from attune.domain.errors import DeadlineUnattainable, QueueFull
from attune.domain.generations import Purpose
from attune.policy.jobs import RETRY_AFTER_S, EngineLimits, Job
from attune.policy.metrics import PolicyMetrics
from attune.policy.pace import Pace

CAUTION = 1.5
"""How many times as long as foretold a job that must wait may take. Who is refused at once can turn elsewhere; who is
refused after seconds, or answered late, cannot."""
WAITED_S = 0.05
"""From when on a job has waited; one that was taken at once is always tried."""


class JobQueue:
    """The jobs that wait; `pace` is to be told by the engine what it sees."""

    def __init__(self, limits: EngineLimits, metrics: PolicyMetrics) -> None:
        self.pace = Pace(limits.running)
        self._most = limits.queued
        self._metrics = metrics
        self._jobs: dict[Purpose, deque[Job]] = {Purpose.USER: deque(), Purpose.ROLLOUT: deque()}
        self._completions = dict.fromkeys(self._jobs, 0)
        self._tokens = dict.fromkeys(self._jobs, 0)

    @property
    def completions(self) -> int:
        """Completions that wait, of users and rollouts."""
        return sum(self._completions.values())

    @property
    def jobs(self) -> list[Job]:
        """All that wait, users first."""
        return [job for jobs in self._jobs.values() for job in jobs]

    def add(self, job: Job) -> None:
        """QueueFull; DeadlineUnattainable if its turn would come too late."""
        self.check_room(job.sampling.completions, job.limit, job.purpose, job.deadline)
        self._jobs[job.purpose].append(job)
        self._count(job, 1)

    def check_room(self, completions: int, limit: int, purpose: Purpose, deadline: float) -> None:
        """What `add` raises for a job of so many completions of at most `limit` tokens each."""
        waiting = self._completions[purpose]
        if waiting + completions > self._most:
            raise QueueFull(f"{waiting} completions wait already", retry_after_s=RETRY_AFTER_S)
        self._refuse_if_late(limit, purpose, deadline)

    def take(self, room: int, *, is_idle: bool) -> list[Job]:
        """Jobs that fit into `room` completions, users first. One that is larger than all room is given to an engine
        that is idle, alone."""
        taken: list[Job] = []
        for jobs in self._jobs.values():
            while jobs:
                n = jobs[0].sampling.completions
                if n > room and (taken or not is_idle):
                    return taken  # and nobody overtakes it, or small rollouts could keep a large user out for ever
                job = jobs.popleft()
                self._count(job, -1)
                taken.append(job)
                room -= n
        return taken

    def drop(self, job: Job) -> None:
        """Takes out a job that was cancelled, if it still waits."""
        if job in self._jobs[job.purpose]:
            self._jobs[job.purpose].remove(job)
            self._count(job, -1)

    def lateness(self, job: Job) -> DeadlineUnattainable | None:
        """Why a job that was taken is not to be begun: it has waited, and cannot be done in time any more."""
        now = time.monotonic()
        has_waited = now - job.admitted_time > WAITED_S
        if has_waited and now + self.pace.writing_s(job.limit) > job.deadline:
            return _unattainable("it has waited for too long", RETRY_AFTER_S)
        return None

    def _refuse_if_late(self, limit: int, purpose: Purpose, deadline: float) -> None:
        ahead = sum(n for other, n in self._tokens.items() if other <= purpose)
        if not ahead:
            return
        wait_s = self.pace.wait_s(ahead)
        late_s = time.monotonic() + CAUTION * (wait_s + self.pace.writing_s(limit)) - deadline
        if late_s > 0:
            raise _unattainable(f"about {wait_s:.1f} s of work wait already", min(late_s, wait_s))

    def _count(self, job: Job, sign: int) -> None:
        self._completions[job.purpose] += sign * job.sampling.completions
        self._tokens[job.purpose] += sign * job.tokens
        self._metrics.queued.labels(job.purpose.name.lower()).inc(sign * job.sampling.completions)


def _unattainable(why: str, retry_after_s: float) -> DeadlineUnattainable:
    return DeadlineUnattainable(f"the deadline cannot be met: {why}", retry_after_s=retry_after_s)
