"""Writes one generation: takes the revision, lets the engine draw, decodes the text, and has it recorded.

Every generation passes here, streamed or not, so that both give the same tokens, text and record. The revision is
fixed at admission, except where the engine changes its weights in place: then completions tell their spans, and the
generation names the revision that began it. Every default of the sampling is filled in, the seed included, so that the
record repeats it.
An id is used up by a generation that was written; after a failure or cancellation the caller may send it again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from attune.domain.errors import AttuneError, DeadlineExceeded
from attune.domain.generations import (
    Completion,
    FinishReason,
    GenerateRequest,
    Generation,
    Purpose,
    RevisionSpan,
    Sampling,
)
from attune.domain.ids import completion_id, uuid7
from attune.modeling.revisions import Held, LoadedRevisions
from attune.modeling.tokenizer import render_prompt
from attune.platform import tracing
from attune.platform.deadline import remaining_s
from attune.policy.engines import Policy, PolicyEngine
from attune.policy.jobs import Job, Tokens
from attune.policy.metrics import PolicyMetrics
from attune.policy.recorder import Recorder
from attune.policy.text import GrowingText

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delta:
    """What completion `index` gained from `revision`: whole characters of text, and the tokens with their
    log-probabilities."""

    generation_id: str
    revision: str
    index: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason | None


@dataclass(frozen=True)
class Written:
    """The end: the whole generation, and whether the event log has it."""

    generation: Generation
    recorded: bool


class Writer:
    """Answers generate requests from `revisions` with `engine`. With `log_texts` prompts and completions are logged."""

    def __init__(
        self,
        revisions: LoadedRevisions[Policy],
        engine: PolicyEngine,
        recorder: Recorder,
        metrics: PolicyMetrics,
        *,
        log_texts: bool = False,
    ) -> None:
        self._revisions = revisions
        self._engine = engine
        self._recorder = recorder
        self._metrics = metrics
        self._log_texts = log_texts

    async def write(self, request: GenerateRequest, *, is_streaming: bool) -> AsyncGenerator[Delta | Written, None]:
        """Deltas (only the last of each completion unless streaming), then Written. Closing it cancels.

        DeadlineUnattainable, GenerationIdReused, InvalidInput, NoRevision, PromptTooLong, QueueFull, RevisionNotLoaded,
        RevisionUnknown.
        """
        generation_id = request.generation_id or uuid7()
        self._recorder.reserve(request.app_id, generation_id)
        outcome, span = "failed", tracing.begin("generate")
        try:
            held = self._revisions.get(request.revision)
            deadline = time.monotonic() + remaining_s(math.inf)
            self._engine.check_room(held.model, request.sampling, request.purpose, deadline)
            admitted = _admit(request, generation_id, held)
            async with aclosing(self._deltas(admitted, held, deadline, is_streaming, span)) as deltas:
                async for delta in deltas:
                    yield delta
            generation = admitted.generation(tracing.traceparent(span))
            if span.is_recording():
                span.set_attributes(_written(generation))
            is_recorded = request.purpose is Purpose.USER and await self._recorder.record(generation)
            outcome = "written"
            if self._log_texts:
                log.info("%s: %r answered with %r", generation.id, generation.prompt, _texts(generation))
            yield Written(generation, is_recorded)
        except AttuneError as error:
            outcome = error.reason.lower()
            raise
        except (asyncio.CancelledError, GeneratorExit):
            outcome = "cancelled" if remaining_s(math.inf) else DeadlineExceeded.reason.lower()
            raise
        finally:
            if outcome != "written":
                self._recorder.release(request.app_id, generation_id)
            self._metrics.requests.labels(request.purpose.name.lower(), outcome).inc()
            if span.is_recording():
                span.set_attributes({**_asked(request, generation_id), "attune.outcome": outcome})
            span.end()

    async def _deltas(
        self, admitted: _Admitted, held: Held[Policy], deadline: float, is_streaming: bool, span: tracing.Span
    ) -> AsyncGenerator[Delta, None]:
        request = admitted.request
        job = Job(held, admitted.prompt_ids, request.sampling, request.purpose, is_streaming, deadline, span=span)
        async with aclosing(self._engine.generate(job)) as events:
            async for event in events:
                text = admitted.growing[event.index].add(event)
                yield Delta(
                    generation_id=admitted.id,
                    revision=event.revision or admitted.revision,
                    index=event.index,
                    text=text,
                    token_ids=event.token_ids,
                    logprobs=event.logprobs,
                    finish_reason=event.finish_reason,
                )


class _Growing:
    """A completion on its way."""

    def __init__(self, policy: Policy, sampling: Sampling) -> None:
        self.text = GrowingText(policy.tokenizer, sampling.stop)
        self.token_ids: list[int] = []
        self.logprobs: list[float] = []
        self.finish_reason: FinishReason | None = None
        self.spans: tuple[RevisionSpan, ...] = ()

    def add(self, gained: Tokens) -> str:
        """Takes in what the completion gained; the text that may be shown now."""
        self.token_ids.extend(gained.token_ids)
        self.logprobs.extend(gained.logprobs)
        self.finish_reason, self.spans = gained.finish_reason, gained.spans
        return self.text.add(gained.token_ids, is_last=gained.finish_reason is not None)


@dataclass(frozen=True)
class _Admitted:
    """A request with everything filled in, and what has come of it."""

    request: GenerateRequest
    id: str
    revision: str
    prompt_ids: tuple[int, ...]
    create_time: float
    growing: list[_Growing]

    def generation(self, traceparent: str) -> Generation:
        """The whole generation, once every completion has ended."""
        completions = tuple(
            Completion(
                id=completion_id(self.id, i),
                text=g.text.text,
                token_ids=tuple(g.token_ids),
                logprobs=tuple(g.logprobs),
                finish_reason=g.finish_reason or FinishReason.UNSPECIFIED,
                spans=g.spans or (RevisionSpan(self.revision, 0, len(g.token_ids)),),
            )
            for i, g in enumerate(self.growing)
        )
        request = self.request
        return Generation(
            id=self.id,
            app_id=request.app_id,
            subject_id=request.subject_id,
            prompt=request.prompt,
            prompt_token_ids=self.prompt_ids,
            completions=completions,
            revision=completions[0].spans[0].revision,
            sampling=request.sampling,
            purpose=request.purpose,
            create_time=self.create_time,
            traceparent=traceparent,
        )


def _asked(request: GenerateRequest, generation_id: str) -> tracing.Attributes:
    """What a span tells of a request."""
    return {
        "attune.generation_id": generation_id,
        "attune.app_id": request.app_id,
        "attune.purpose": request.purpose.name.lower(),
    }


def _written(generation: Generation) -> tracing.Attributes:
    """What a span tells of a generation; names of OpenTelemetry's conventions where they have one."""
    return {
        "attune.revision": generation.revision,
        "gen_ai.operation.name": "chat" if generation.prompt.messages else "text_completion",
        "gen_ai.usage.input_tokens": len(generation.prompt_token_ids),
        "gen_ai.usage.output_tokens": sum(len(c.token_ids) for c in generation.completions),
        "gen_ai.response.finish_reasons": [c.finish_reason.name.lower() for c in generation.completions],
    }


def _texts(generation: Generation) -> list[str]:
    return [completion.text for completion in generation.completions]


def seed_of(generation_id: str) -> int:
    """The seed of a generation that was given none. It follows from the id, so that a caller who asks again under the
    same id, when the server died before it answered, is shown what the event log may have already."""
    return int.from_bytes(hashlib.sha256(generation_id.encode()).digest()[:8], "big") >> 1


def _admit(request: GenerateRequest, generation_id: str, held: Held[Policy]) -> _Admitted:
    seed = request.sampling.seed
    sampling = replace(request.sampling, seed=seed_of(generation_id) if seed is None else seed)
    return _Admitted(
        request=replace(request, sampling=sampling),
        id=generation_id,
        revision=held.name,
        prompt_ids=tuple(render_prompt(held.model.tokenizer, request.prompt.as_chat())),
        create_time=time.time(),
        growing=[_Growing(held.model, sampling) for _ in range(sampling.completions)],
    )
