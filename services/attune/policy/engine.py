"""The engine: one thread that decodes, and a queue in front of it.

A generation is admitted as rows, one a completion, to the decoder of the revision it holds; several revisions decode
side by side, turn by turn, so that a swap aborts nothing and one revision writes a whole completion. The queue says who
goes first and who is refused. Every turn: take out what was cancelled, admit what fits, one step of each decoder with
what it takes in, report. A stream is told of several tokens at once where they come fast.

The event loop submits and cancels; the thread reports tokens back in one call a turn. A failure in the thread ends the
process: `run` raises it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from attune.domain.errors import AttuneError, ServerUnavailable
from attune.domain.generations import FinishReason, Purpose, Sampling
from attune.platform.priority import stand_behind
from attune.policy.decoder import NOBODY, Decoder, Joining
from attune.policy.engines import Policy
from attune.policy.jobs import RETRY_AFTER_S, EngineLimits, Job, Tokens, check_fits, tell
from attune.policy.metrics import PolicyMetrics
from attune.policy.queue import JobQueue
from attune.policy.sampling import RowSampling
from attune.policy.stillness import Stillness
from attune.policy.text import GrowingText

ENGINE_THREAD = "attune-engine"
"""What the thread is called in `top -H`, and torch's that work for it; the others of the process are the service."""
Event = tuple[Job, Tokens | AttuneError]


@dataclass
class Row:
    """A completion being written; `reported` tokens of it have been told, the last at `report_time`."""

    job: Job
    index: int
    limit: int
    eos_id: int
    stop_text: GrowingText | None
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    reported: int = 0
    report_time: float = 0.0

    def report(self, reason: FinishReason | None, now: float) -> Tokens:
        """What is new since the last report."""
        start, self.reported, self.report_time = self.reported, len(self.token_ids), now
        return Tokens(self.index, tuple(self.token_ids[start:]), tuple(self.logprobs[start:]), reason)


class Engine:
    """Make it and `run` it inside one event loop; `generate` from there."""

    def __init__(self, limits: EngineLimits, metrics: PolicyMetrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self._queue = JobQueue(limits, metrics)
        self.stillness = Stillness(metrics.frozen_s.observe)
        self._running: dict[str, tuple[Decoder, list[Row]]] = {}
        self._admitting: list[Job] = []
        self._changed = threading.Condition()
        self._is_closed = False
        self.pause_reason: str | None = None
        self.running_completions = 0

    @property
    def queued_completions(self) -> int:
        """Completions that wait, of users and rollouts."""
        return self._queue.completions

    # Event loop side

    async def generate(self, job: Job) -> AsyncGenerator[Tokens, None]:
        """Submits a job and yields what it gains until all its completions are done; closing it cancels the rest.

        PromptTooLong, QueueFull, DeadlineUnattainable; ServerUnavailable if the engine ends meanwhile.
        """
        self._submit(job)
        left = job.sampling.completions
        first = True
        purpose = job.purpose.name.lower()
        try:
            while left:
                event = await job.events.get()
                if isinstance(event, Exception):
                    raise event
                if first:
                    self._metrics.first_token_s.labels(purpose).observe(time.monotonic() - job.admitted_time)
                    first = False
                left -= event.finish_reason is not None
                yield event
            self._metrics.duration_s.labels(purpose).observe(time.monotonic() - job.admitted_time)
        finally:
            if left:
                self._cancel(job)

    def _submit(self, job: Job) -> None:
        check_fits(job.prompt_ids, job.held.model.max_context)
        with self._changed:
            if self._is_closed:
                raise ServerUnavailable("the engine has ended")
            self._queue.add(job)
            self._changed.notify()

    def check_room(self, policy: Policy, sampling: Sampling, purpose: Purpose, deadline: float) -> None:
        """As PolicyEngine says."""
        with self._changed:
            if self._is_closed:
                raise ServerUnavailable("the engine has ended")
            limit = min(sampling.max_tokens, policy.max_context)
            self._queue.check_room(sampling.completions, limit, purpose, deadline)

    def _cancel(self, job: Job) -> None:
        with self._changed:
            job.is_cancelled = True
            self._queue.drop(job)
            self._changed.notify()

    def pause(self, reason: str) -> None:
        """Admits nothing more; what runs goes on."""
        with self._changed:
            self.pause_reason = reason or "paused"

    def resume(self) -> None:
        with self._changed:
            self.pause_reason = None
            self._changed.notify()

    async def run(self) -> None:
        """Decodes until cancelled; raises what the thread failed with. Waiting callers get ServerUnavailable."""
        loop = asyncio.get_running_loop()

        def post(events: list[Event]) -> None:
            loop.call_soon_threadsafe(_deliver, events)

        decoding = asyncio.ensure_future(asyncio.to_thread(self._decode, post))
        try:
            await asyncio.shield(decoding)
        finally:
            with self._changed:
                self._is_closed = True
                self._changed.notify()
            await asyncio.shield(asyncio.wait([decoding]))
            self._abandon()

    def _abandon(self) -> None:
        error = ServerUnavailable("the server is going down", retry_after_s=RETRY_AFTER_S)
        jobs = [*self._admitting, *self._queue.jobs]
        jobs += {id(row.job): row.job for _, rows in self._running.values() for row in rows}.values()
        for job in jobs:
            job.events.put_nowait(error)

    # Thread side

    def _decode(self, report: Callable[[list[Event]], None]) -> None:
        """Turns until closed."""
        _name_thread(ENGINE_THREAD)
        stand_behind(self._limits.nice)
        while True:
            started, was_running = time.monotonic(), bool(self._running)
            admitted = self._wait_for_work()
            if admitted is None:
                return
            has_queue = self.queued_completions > 0
            events: list[Event] = []
            self._drop_cancelled()
            self._admitting = admitted
            jobs = self._in_time(admitted, events)
            joining = self._joining(jobs)
            self._admitting = []
            tell(jobs, "prefill")
            for name, (decoder, rows) in self._running.items():
                if rows:
                    self._take_in(rows, *decoder.step(joining.get(name, NOBODY)), events)
            tell(jobs, "first token")
            self._running = {name: found for name, found in self._running.items() if found[1]}
            self.running_completions = sum(len(rows) for _, rows in self._running.values())
            self._metrics.running.set(self.running_completions)
            if events:
                report(events)
            if has_queue and was_running:
                self._queue.pace.saw_turn(time.monotonic() - started)

    def _wait_for_work(self) -> list[Job] | None:
        """Jobs to admit now, once there is anything to do; None when closed."""
        with self._changed:
            while True:
                if self._is_closed:
                    return None
                jobs = self._next_jobs()
                if jobs or self._running:
                    return jobs
                self.stillness.saw_idle()
                self._changed.wait()

    def _next_jobs(self) -> list[Job]:
        room = self._limits.running - self.running_completions
        return [] if self.pause_reason else self._queue.take(room, is_idle=not self.running_completions)

    def _in_time(self, jobs: list[Job], events: list[Event]) -> list[Job]:
        """Those that can still be done in time; the others are told, before their prompts cost anything."""
        late = {job: error for job in jobs if (error := self._queue.lateness(job))}
        events.extend(late.items())
        return [job for job in jobs if job not in late]

    def _joining(self, jobs: list[Job]) -> dict[str, Joining]:
        """What each revision's decoder is to take in, its rows made."""
        by_revision: dict[str, list[Job]] = {}
        for job in jobs:
            by_revision.setdefault(job.held.name, []).append(job)
        joining = {}
        for name, group in by_revision.items():
            if name not in self._running:
                self._running[name] = Decoder(group[0].held.model.model), []
            fresh = [_row(job, i) for job in group for i in range(job.sampling.completions)]
            self._running[name][1].extend(fresh)
            source = [j for j, job in enumerate(group) for _ in range(job.sampling.completions)]
            sampling = RowSampling.of([(row.job.sampling, row.index) for row in fresh])
            joining[name] = Joining([job.prompt_ids for job in group], source, sampling)
        return joining

    def _take_in(self, rows: list[Row], tokens: list[int], logprobs: list[float], events: list[Event]) -> None:
        """Adds a token to each row, reports, and lets finished rows leave."""
        finished, now = [], time.monotonic()
        for i, (row, token, logprob) in enumerate(zip(rows, tokens, logprobs, strict=True)):
            row.token_ids.append(token)
            row.logprobs.append(logprob)
            reason = _finish_reason(row, token)
            if reason is not None:
                finished.append(i)
                self._queue.pace.saw_end(len(row.token_ids), row.limit)
            if reason is not None or (row.job.is_streaming and self._is_due(row, now)):
                events.append((row.job, row.report(reason, now)))
        self._metrics.tokens.inc(len(tokens))
        self.stillness.saw_tokens()
        self._leave(rows, finished)

    def _is_due(self, row: Row, now: float) -> bool:
        """Whether a stream hears of a row: its first token at once, later ones in company."""
        is_enough = len(row.token_ids) - row.reported >= self._limits.stream_tokens
        return not row.reported or is_enough or now - row.report_time >= self._limits.stream_s

    def _drop_cancelled(self) -> None:
        for _, rows in self._running.values():
            gone = [i for i, row in enumerate(rows) if row.job.is_cancelled]
            self._metrics.wasted.inc(sum(len(rows[i].token_ids) for i in gone))
            self._leave(rows, gone)

    def _leave(self, rows: list[Row], gone: list[int]) -> None:
        if not gone:
            return
        decoder = next(decoder for decoder, found in self._running.values() if found is rows)
        rows[:] = [rows[i] for i in decoder.leave(gone)]


def _deliver(events: list[Event]) -> None:
    """On the event loop: to whom each belongs."""
    for job, event in events:
        job.events.put_nowait(event)


def _name_thread(name: str) -> None:
    """Names the calling thread and those that it will start, where the kernel lets it (Linux)."""
    with suppress(OSError):
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name)


def _row(job: Job, index: int) -> Row:
    policy, stop = job.held.model, job.sampling.stop
    stop_text = GrowingText(policy.tokenizer, stop) if stop else None
    return Row(job, index, job.limit, int(policy.tokenizer.eos_token_id), stop_text)


def _finish_reason(row: Row, token: int) -> FinishReason | None:
    if token == row.eos_id:
        return FinishReason.EOS
    if row.stop_text is not None:
        row.stop_text.add([token])
        if row.stop_text.stopped:
            return FinishReason.STOP_STRING
    return FinishReason.LENGTH if len(row.token_ids) >= row.limit else None
