"""The writer without a wire: what is filled in at admission, and what becomes of an id when nothing comes of it."""

from __future__ import annotations

import logging
from contextlib import aclosing

import pytest
from attune.domain.errors import PromptTooLong
from attune.domain.generations import GenerateRequest, Sampling
from attune.domain.ids import uuid7
from attune.domain.prompts import Prompt
from attune.policy.writer import Delta, Writer, Written
from unit.policy.serving import Server


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


async def test_closing_early_cancels_and_releases(server: Server) -> None:
    chosen = uuid7()
    steps = server.writer.write(request(generation_id=chosen), is_streaming=True)
    await anext(steps)
    await steps.aclose()
    assert server.recorded() == []
    found = [step async for step in server.writer.write(request(generation_id=chosen), is_streaming=False)]
    assert isinstance(found[-1], Written)


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
