"""The scorer: pairs of many callers, scored in batches of similar length, each request by one revision.

Callers await `score` on the event loop; one thread turns pairs into tokens (a tokenizer is not for two threads at
once), another runs the model, so that tokens of the next round are made while this one is scored. A round takes the
oldest request and all others waiting for the same revision, up to a limit, and cuts them into batches by length. A
request is answered with the batch that completes it, so that its caller's next one is ready for the next round. The
score of a pair does not depend on its company (beyond 1e-5, the rounding of sums in another order).

Refused: no pairs or more than 1024, a pair that does not fit the model's context (never truncated: the score would be
that of another text), and requests beyond the queue's limit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch

from attune.domain.errors import (
    AttuneError,
    FieldViolation,
    InvalidInput,
    PromptTooLong,
    QueueFull,
    ServerUnavailable,
)
from attune.domain.prompts import Prompt
from attune.modeling.batching import length_buckets
from attune.modeling.revisions import Held, LoadedRevisions
from attune.modeling.reward_model import reward_input
from attune.modeling.tokenizer import render_prompt
from attune.platform import tracing
from attune.reward.engine import ScoringModel
from attune.reward.metrics import RewardMetrics

MAX_PAIRS = 1024
RETRY_AFTER_S = 0.25
"""When a refused caller may come back: a few rounds of a small model, and no busy loop for a large one."""

Pair = tuple[Prompt, str]


@dataclass(frozen=True)
class BatchLimits:
    """Pairs, tokens with padding and tokens of padding of a batch, pairs of a round, and pairs waiting in the queue."""

    batch_pairs: int = 64
    batch_tokens: int = 16_384
    round_pairs: int = 1024
    queue_pairs: int = 8192
    batch_padding: int = 256


@dataclass(frozen=True)
class Scored:
    """Scores in the order of the pairs: the head's output, and the same in units of the revision's anchor set."""

    revision: str
    raw: tuple[float, ...]
    normalised: tuple[float, ...]


@dataclass(eq=False)
class _Job:
    """One request: its revision, fixed at admission, and the tokens of its pairs."""

    held: Held[ScoringModel]
    inputs: list[list[int]]
    done: asyncio.Future[list[float]]
    scores: dict[int, float] = field(default_factory=dict)
    """By the index of the pair, as batches bring them."""


class Scorer:
    """Made and used on one event loop; `run` must be running for requests to be answered."""

    def __init__(self, revisions: LoadedRevisions[ScoringModel], limits: BatchLimits, metrics: RewardMetrics) -> None:
        self._revisions = revisions
        self._limits = limits
        self._metrics = metrics
        self._jobs: deque[_Job] = deque()
        self._work = asyncio.Event()
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="tokenize")
        self._scoring = ThreadPoolExecutor(1, thread_name_prefix="score")
        self._round: list[_Job] = []
        self._admitted_pairs = 0
        self._has_stopped = False
        self.pause_reason: str | None = None

    @property
    def running_pairs(self) -> int:
        """Pairs being scored."""
        return sum(len(job.inputs) for job in self._round if not job.done.done())

    @property
    def queued_pairs(self) -> int:
        """Pairs admitted and not yet being scored."""
        return self._admitted_pairs - self.running_pairs

    async def score(self, pairs: Sequence[Pair], asked: str = "") -> Scored:
        """Scores pairs with an alias, a number or a full name of a revision; empty is stable.

        InvalidInput, PromptTooLong naming the pair, QueueFull, EngineUnavailable, and what LoadedRevisions.get
        raises."""
        if not 1 <= len(pairs) <= MAX_PAIRS:
            raise InvalidInput.field("pairs", f"must be 1 to {MAX_PAIRS} pairs")
        held = self._revisions.get(asked)
        self._admit(len(pairs))
        try:
            loop = asyncio.get_running_loop()
            inputs = await loop.run_in_executor(self._tokenizing, _inputs, held, pairs)
            self._refuse_if_stopped()
            job = _Job(held, inputs, loop.create_future())
            self._jobs.append(job)
            self._work.set()
            raw = await job.done
        finally:
            self._admitted_pairs -= len(pairs)
            self._metrics.queue_pairs.set(self.queued_pairs)
        self._metrics.pairs.inc(len(pairs))
        tracing.note({"attune.revision": held.name, "attune.pairs": len(pairs)})
        normalised = held.model.normalisation.normalised(torch.tensor(raw, dtype=torch.float64))
        return Scored(held.name, tuple(raw), tuple(normalised.tolist()))

    def pause(self, reason: str) -> None:
        """Holds the queue; the running round finishes."""
        self.pause_reason = reason

    def resume(self) -> None:
        """Ends a pause."""
        self.pause_reason = None
        self._work.set()

    async def run(self) -> None:
        """Scores what waits, round by round, until cancelled. A round gets the AttuneError of its engine; any other
        failure of the model ends the scorer, and with it the process; requests that wait then get ServerUnavailable."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._work.wait()
                self._round = self._next_round()
                if not self._round:
                    self._work.clear()
                    continue
                self._metrics.queue_pairs.set(self.queued_pairs)
                try:
                    await loop.run_in_executor(self._scoring, self._score_round, self._round, loop)
                except AttuneError as error:
                    _refuse(self._round, error)
        finally:
            self._has_stopped = True
            for job in (*self._round, *self._jobs):
                if not job.done.done():
                    job.done.set_exception(ServerUnavailable("the scorer has stopped"))
            self._tokenizing.shutdown(wait=False)
            self._scoring.shutdown(wait=False)

    def _admit(self, pairs: int) -> None:
        self._refuse_if_stopped()
        if self._admitted_pairs and self.queued_pairs + pairs > self._limits.queue_pairs:
            raise QueueFull(
                f"{self.queued_pairs} pairs are waiting and {pairs} more exceed {self._limits.queue_pairs}",
                retry_after_s=RETRY_AFTER_S,
            )
        self._admitted_pairs += pairs
        self._metrics.queue_pairs.set(self.queued_pairs)

    def _refuse_if_stopped(self) -> None:
        if self._has_stopped:
            raise ServerUnavailable("the scorer has stopped")

    def _next_round(self) -> list[_Job]:
        """The oldest request and later ones for the same revision; whose callers have gone are dropped."""
        if self.pause_reason is not None:
            return []
        waiting = [job for job in self._jobs if not job.done.done()]
        taken: list[_Job] = []
        pairs = 0
        for job in waiting:
            if taken and (job.held is not taken[0].held or pairs + len(job.inputs) > self._limits.round_pairs):
                continue
            taken.append(job)
            pairs += len(job.inputs)
        self._jobs = deque(job for job in waiting if job not in taken)
        return taken

    def _score_round(self, jobs: Sequence[_Job], loop: asyncio.AbstractEventLoop) -> None:
        """Scores the pairs of the jobs; who has all of theirs need not wait for the rest. On the scoring thread."""
        model = jobs[0].held.model
        pairs = [(job, i) for job in jobs for i in range(len(job.inputs))]
        lengths = [len(job.inputs[i]) for job, i in pairs]
        limits = self._limits
        for batch in length_buckets(lengths, limits.batch_pairs, limits.batch_tokens, limits.batch_padding):
            taken = [pairs[place] for place in batch]
            with self._metrics.duration.time():
                found = model.raw_scores([job.inputs[i] for job, i in taken])
            self._metrics.batch_pairs.observe(len(batch))
            loop.call_soon_threadsafe(_deliver, taken, found)


def _deliver(pairs: Sequence[tuple[_Job, int]], scores: Sequence[float]) -> None:
    for (job, i), score in zip(pairs, scores, strict=True):
        job.scores[i] = score
        if len(job.scores) == len(job.inputs) and not job.done.done():
            job.done.set_result([job.scores[place] for place in range(len(job.inputs))])


def _refuse(jobs: Sequence[_Job], error: AttuneError) -> None:
    for job in jobs:
        if not job.done.done():
            job.done.set_exception(type(error)(error.message, retry_after_s=error.retry_after_s))


def _inputs(held: Held[ScoringModel], pairs: Sequence[Pair]) -> list[list[int]]:
    """The tokens of each pair. On the tokenizing thread."""
    loaded = held.model
    inputs = []
    for i, (prompt, completion) in enumerate(pairs):
        try:
            tokens = reward_input(loaded.tokenizer, render_prompt(loaded.tokenizer, prompt.as_chat()), completion)
        except InvalidInput as error:
            violations = [FieldViolation(f"pairs[{i}].{v.field}", v.description) for v in error.violations]
            raise InvalidInput(f"pairs[{i}].{error.message}", violations=violations) from error
        if len(tokens) > loaded.max_context:
            found = f"has {len(tokens)} tokens with its completion, but the model reads {loaded.max_context}"
            raise PromptTooLong(f"pairs[{i}] {found}", violations=[FieldViolation(f"pairs[{i}]", found)])
        inputs.append(tokens)
    return inputs
