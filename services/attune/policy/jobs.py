"""What an engine is asked and what it answers: a job, the tokens it gains, and how much an engine takes at once."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from attune.domain.errors import PromptTooLong
from attune.domain.generations import FinishReason, Purpose, RevisionSpan, Sampling
from attune.modeling.revisions import Held
from attune.platform.tracing import UNTRACED, Span

RETRY_AFTER_S = 0.5


@dataclass(frozen=True)
class EngineLimits:
    """How much runs and waits at once, in completions, users and rollouts apart; and how many tokens, or seconds, a
    stream waits at most for company; and by how much the claim of the engine's thread on the cores stands behind that
    of others."""

    running: int = 96
    queued: int = 1024
    stream_tokens: int = 8
    stream_s: float = 0.05
    nice: int = 0


@dataclass(frozen=True)
class Tokens:
    """What completion `index` gained; `finish_reason` is set when it is done.

    An engine that changes its weights in place says by `revision` who wrote these tokens, and at the end by `spans`
    who wrote which of all; empty is the revision that the job holds.
    """

    index: int
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason | None = None
    revision: str = ""
    spans: tuple[RevisionSpan, ...] = ()


@dataclass(eq=False)
class Job:
    """A generation in the engine. `held` is its revision as it was at admission, in the form that its engine takes;
    `deadline` is in seconds of the monotonic clock."""

    held: Held[Any]
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    purpose: Purpose
    is_streaming: bool = False
    deadline: float = math.inf
    is_cancelled: bool = False
    events: asyncio.Queue[Tokens | Exception] = field(default_factory=asyncio.Queue)
    admitted_time: float = field(default_factory=time.monotonic)
    span: Span = UNTRACED

    @property
    def limit(self) -> int:
        """Most tokens of a completion."""
        return min(self.sampling.max_tokens, self.held.model.max_context - len(self.prompt_ids))

    @property
    def tokens(self) -> int:
        """Most tokens of all completions."""
        return self.limit * self.sampling.completions


def tell(jobs: Iterable[Job], event: str) -> None:
    """Notes on the traces of jobs how far they are; from its begin to "prefill" a span has waited."""
    for job in jobs:
        job.span.add_event(event)


def check_fits(prompt_ids: tuple[int, ...], context: int) -> int:
    """How many tokens a completion may have; PromptTooLong if none."""
    room = context - len(prompt_ids)
    if room < 1:
        raise PromptTooLong(
            f"the prompt has {len(prompt_ids)} tokens and the context {context}",
            metadata={"prompt_tokens": str(len(prompt_ids)), "context": str(context)},
        )
    return room
