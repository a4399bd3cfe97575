"""The writer without a wire: what is filled in at admission, and what becomes of an id when nothing comes of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import pytest
from attune.domain.errors import InvalidInput, PromptTooLong, QueueFull
from attune.domain.generations import FinishReason, GenerateRequest, Purpose, RevisionSpan, Sampling
from attune.domain.ids import uuid7
from attune.domain.prompts import Prompt
from attune.platform.deadline import set_deadline
from attune.policy.engines import Policy
from attune.policy.jobs import EngineLimits, Job, Tokens
from attune.policy.writer import Delta, Writer, Written
from support.eventually import eventually
from unit.policy.serving import Server, serving


def request(**how) -> GenerateRequest:
    return GenerateRequest("test", Prompt.user("Where is it?"), Sampling(max_tokens=6, completions=2), **how)


async def test_deltas_come_before_the_whole_and_end_each_completion_once(server: Server) -> None:
    async with aclosing(server.writer.write(request(), is_streaming=False)) as steps:
        found = [step async for step in steps]
    *deltas, written = found
    assert isinstance(written, Written)
    assert all(isinstance(d, Delta) and d.finish_reason for d in deltas)
    assert sorted(d.index for d in deltas) == [0, 1]
    assert [g.id for g in server.recorded()] == [written.generation.id]
    assert written.generation.sampling.seed is not None


async def test_an_id_is_released_when_the_prompt_is_refused(server: Server) -> None:
    chosen = uuid7()
    long = GenerateRequest("test", Prompt.user("where " * 99), Sampling(), generation_id=chosen)
    with pytest.raises(PromptTooLong):
        [step async for step in server.writer.write(long, is_streaming=False)]
    found = [step async for step in server.writer.write(request(generation_id=chosen), is_streaming=False)]
    assert isinstance(found[-1], Written)
    assert server.shop.sample("attune_generation_requests_total", purpose="user", outcome="prompt_too_long") == 1


async def test_a_prompt_is_not_read_where_there_is_no_room(tmp_path: Path) -> None:
    unreadable = GenerateRequest("test", Prompt.user("<|assistant|>"), Sampling(max_tokens=6))
    async with serving(tmp_path, limits=EngineLimits(running=1, queued=2)) as server:
        with pytest.raises(InvalidInput):
            [step async for step in server.writer.write(unreadable, is_streaming=False)]
        server.engine.pause("so that jobs wait")
        waiting = asyncio.create_task(anext(server.writer.write(request(), is_streaming=False)))
        await eventually(lambda: server.engine.queued_completions == 2)
        with pytest.raises(QueueFull):
            [step async for step in server.writer.write(unreadable, is_streaming=False)]
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_closing_early_cancels_and_releases(server: Server) -> None:
    chosen = uuid7()
    steps = server.writer.write(request(generation_id=chosen), is_streaming=True)
    await anext(steps)
    await steps.aclose()
    assert server.recorded() == []
    found = [step async for step in server.writer.write(request(generation_id=chosen), is_streaming=False)]
    assert isinstance(found[-1], Written)


@pytest.mark.parametrize(("left_s", "outcome"), [(60.0, "cancelled"), (0.0, "deadline_exceeded")])
async def test_what_ended_a_generation_tells_the_caller_from_the_clock(
    server: Server, left_s: float, outcome: str
) -> None:
    set_deadline(60.0)
    steps = server.writer.write(request(), is_streaming=True)
    await anext(steps)
    set_deadline(left_s)
    await steps.aclose()
    assert server.shop.sample("attune_generation_requests_total", purpose="user", outcome=outcome) == 1


async def test_a_generation_that_fails_unexpectedly_was_not_cancelled(server: Server) -> None:
    writer = Writer(None, server.engine, server.recorder, server.shop.metrics)  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        [step async for step in writer.write(request(), is_streaming=False)]
    assert server.shop.sample("attune_generation_requests_total", purpose="user", outcome="failed") == 1


@pytest.mark.parametrize("log_texts", [False, True], ids=["unasked", "asked for"])
async def test_texts_are_logged_only_if_asked_for(
    server: Server, log_texts: bool, caplog: pytest.LogCaptureFixture
) -> None:
    shop = server.shop
    writer = Writer(shop.revisions.loaded, server.engine, server.recorder, shop.metrics, log_texts=log_texts)
    with caplog.at_level(logging.DEBUG):
        found = [step async for step in writer.write(request(), is_streaming=True)]
        long = GenerateRequest("test", Prompt.user("Where is it? " * 99), Sampling())
        with pytest.raises(PromptTooLong):
            [step async for step in writer.write(long, is_streaming=False)]
    (written,) = [step for step in found if isinstance(step, Written)]
    said = [record.getMessage() for record in caplog.records]
    if log_texts:
        assert [f"{completion.text!r}" in said[0] for completion in written.generation.completions] == [True, True]
        assert ["Where is it?" in line for line in said] == [True]
    else:
        assert not any("Where is it?" in line for line in said)


class Swapping:
    """An engine that changed its weights after the first of two tokens."""

    pause_reason = None
    queued_completions = running_completions = 0

    def check_room(self, policy: Policy, sampling: Sampling, purpose: Purpose, deadline: float) -> None: ...

    async def generate(self, job: Job) -> AsyncGenerator[Tokens, None]:
        spans = (RevisionSpan("one", 0, 1), RevisionSpan("two", 1, 1))
        yield Tokens(0, (5,), (-1.0,), revision="one")
        yield Tokens(0, (6,), (-2.0,), FinishReason.LENGTH, revision="two", spans=spans)

    def pause(self, reason: str) -> None: ...

    def resume(self) -> None: ...

    async def run(self) -> None: ...


async def test_a_completion_that_spans_a_swap_says_who_wrote_what(server: Server) -> None:
    writer = Writer(server.shop.revisions.loaded, Swapping(), server.recorder, server.shop.metrics)
    asked = GenerateRequest("test", Prompt.user("Where is it?"), Sampling(max_tokens=2))
    async with aclosing(writer.write(asked, is_streaming=True)) as steps:
        first, second, written = [step async for step in steps]
    assert (first.revision, second.revision) == ("one", "two")
    (completion,) = written.generation.completions
    assert [(s.revision, s.first_token, s.tokens) for s in completion.spans] == [("one", 0, 1), ("two", 1, 1)]
    assert written.generation.revision == "one"
