"""The scorer: pairs of many callers, scored in batches of similar length, each request by one revision.

Callers await `score` on the event loop; one thread turns pairs into tokens (a tokenizer is not for two threads at
once), another runs the model, so that tokens of the next round are made while this one is scored. A round takes the
oldest request and all others waiting for the same revision, up to a limit, and cuts them into batches by length;
the score of a pair does not depend on its company (beyond 1e-5, the rounding of sums in another order).

Refused: no pairs or more than 1024, a pair that does not fit the model's context (never truncated: the score would be
that of another text), and requests beyond the queue's limit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from attune.domain.errors import FieldViolation, InvalidInput, PromptTooLong, QueueFull, ServerUnavailable
from attune.domain.prompts import Prompt
from attune.modeling.batching import length_buckets, pad
from attune.modeling.revisions import Held, LoadedRevisions
from attune.modeling.reward_model import LoadedRewardModel, reward_input
from attune.modeling.tokenizer import render_prompt
from attune.platform import tracing
from attune.reward.metrics import RewardMetrics

MAX_PAIRS = 1024
RETRY_AFTER_S = 0.25
"""When a refused caller may come back: a few rounds of a small model, and no busy loop for a large one."""

Pair = tuple[Prompt, str]


@dataclass(frozen=True)
class BatchLimits:
    """Pairs and padded tokens of a batch, pairs of a round, and pairs waiting in the queue."""

    batch_pairs: int = 64
    batch_tokens: int = 16_384
    round_pairs: int = 1024
    queue_pairs: int = 8192


@dataclass(frozen=True)
class Scored:
    """Scores in the order of the pairs: the head's output, and the same in units of the revision's anchor set."""

    revision: str
    raw: tuple[float, ...]
    normalised: tuple[float, ...]


@dataclass(eq=False)
class _Job:
    """One request: its revision, fixed at admission, and the tokens of its pairs."""

    held: Held[LoadedRewardModel]
    inputs: list[list[int]]
    done: asyncio.Future[list[float]]


class Scorer:
    """Made and used on one event loop; `run` must be running for requests to be answered."""

    def __init__(
        self, revisions: LoadedRevisions[LoadedRewardModel], limits: BatchLimits, metrics: RewardMetrics
    ) -> None:
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
        return sum(len(job.inputs) for job in self._round)

    @property
    def queued_pairs(self) -> int:
        """Pairs admitted and not yet being scored."""
        return self._admitted_pairs - self.running_pairs

    async def score(self, pairs: Sequence[Pair], asked: str = "") -> Scored:
        """Scores pairs with an alias, a number or a full name of a revision; empty is stable.

        InvalidInput, PromptTooLong naming the pair, QueueFull, and what LoadedRevisions.get raises."""
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
        """Scores what waits, round by round, until cancelled. A failure of the model ends it, and with it the process;
        requests that wait then get ServerUnavailable."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._work.wait()
                self._round = self._next_round()
                if not self._round:
                    self._work.clear()
                    continue
                self._metrics.queue_pairs.set(self.queued_pairs)
                _deliver(self._round, await loop.run_in_executor(self._scoring, self._score_round, self._round))
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

    def _score_round(self, jobs: Sequence[_Job]) -> list[float]:
        """Raw scores of all pairs of the jobs, in order. On the scoring thread."""
        held = jobs[0].held
        inputs = [tokens for job in jobs for tokens in job.inputs]
        lengths = [len(tokens) for tokens in inputs]
        scores = [0.0] * len(inputs)
        for batch in length_buckets(lengths, self._limits.batch_pairs, self._limits.batch_tokens):
            with self._metrics.duration.time(), torch.inference_mode():
                found = _batch_scores(held.model, [inputs[i] for i in batch])
            self._metrics.batch_pairs.observe(len(batch))
            for i, score in zip(batch, found, strict=True):
                scores[i] = score
        return scores


def _batch_scores(loaded: LoadedRewardModel, inputs: Sequence[Sequence[int]]) -> list[float]:
    model = loaded.model
    padded = pad(inputs, int(loaded.tokenizer.pad_token_id), "right", model.head.weight.device)
    return model.scores(padded.input_ids, padded.attention_mask).tolist()


def _deliver(jobs: Sequence[_Job], raw: Sequence[float]) -> None:
    start = 0
    for job in jobs:
        end = start + len(job.inputs)
        if not job.done.done():
            job.done.set_result(list(raw[start:end]))
        start = end


def _inputs(held: Held[LoadedRewardModel], pairs: Sequence[Pair]) -> list[list[int]]:
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
