"""PolicyService over gRPC: streams equal whole answers, bad requests are refused by field, retries are safe."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import grpc
import pytest
from attune.api.policy.v1 import policy_pb2, policy_pb2_grpc
from attune.client import NO_RETRY, AsyncClient, Delta, GenerationResult, Prompt, Purpose
from attune.domain.errors import (
    GenerationIdReused,
    InvalidInput,
    NoRevision,
    PromptTooLong,
    RevisionNotLoaded,
    RevisionUnknown,
)
from attune.domain.generations import FinishReason
from attune.domain.ids import uuid7
from attune.modeling.loading import LoadedPolicy
from attune.platform.events.memory import MemoryEventLog
from support.eventually import eventually
from unit.policy.serving import Server, recomputed, serving

ASKED = "Where is my order?"


def live(server: Server) -> LoadedPolicy:
    return server.shop.revisions.loaded.get().model


async def test_an_answer_is_recorded_as_it_was_given(server: Server) -> None:
    result = await server.client.generate(ASKED, completions=3, subject_id="ada", temperature=0.8)
    assert result.recorded
    assert server.recorded() == [result.generation]
    g = result.generation
    assert (g.app_id, g.subject_id, g.revision, g.purpose) == ("test", "ada", "policies/support/revisions/1", 1)
    assert g.sampling.seed is not None  # filled in here, so that the record repeats the draw
    assert (g.sampling.max_tokens, g.sampling.temperature) == (12, 0.8)
    for i, completion in enumerate(g.completions):
        assert completion.id == f"{g.id}/{i}"
        assert completion.logprobs == pytest.approx(recomputed(live(server), g, i), abs=1e-5)
        (span,) = completion.spans
        assert (span.revision, span.first_token, span.tokens) == (g.revision, 0, len(completion.token_ids))


async def test_the_recorded_seed_repeats_the_answer(server: Server) -> None:
    first = (await server.client.generate(ASKED, completions=2)).generation
    again = (await server.client.generate(ASKED, completions=2, seed=first.sampling.seed)).generation
    assert [c.token_ids for c in again.completions] == [c.token_ids for c in first.completions]
    assert again.id != first.id


@pytest.mark.parametrize("stop", [[], ["e", "zz"]])
async def test_a_stream_gives_what_the_whole_answer_gives(server: Server, stop: list[str]) -> None:
    whole = await server.client.generate(ASKED, completions=3, seed=5, stop=stop)
    deltas: list[Delta] = []
    async with aclosing(server.client.stream(ASKED, completions=3, seed=5, stop=stop)) as steps:
        async for step in steps:
            if isinstance(step, Delta):
                deltas.append(step)
            else:
                final: GenerationResult = step
    assert final.texts == whole.texts
    assert final.recorded
    for i, completion in enumerate(whole.generation.completions):
        mine = [d for d in deltas if d.index == i]
        assert "".join(d.text for d in mine) == completion.text
        assert tuple(t for d in mine for t in d.token_ids) == completion.token_ids
        assert mine[-1].finish_reason == completion.finish_reason
        assert all(d.finish_reason is None for d in mine[:-1])
        assert d_ids(mine) == {final.generation.id}


def d_ids(deltas: list[Delta]) -> set[str]:
    return {d.generation_id for d in deltas}


async def test_a_stop_string_is_cut_from_the_text_not_from_the_tokens(server: Server) -> None:
    plain = await server.client.generate(ASKED, completions=8, seed=9)
    text = next(text for text in plain.texts if len(text) > 2)
    i, stop = plain.texts.index(text), text[1]
    cut = (await server.client.generate(ASKED, completions=8, seed=9, stop=[stop])).generation.completions[i]
    assert cut.text == text.partition(stop)[0]
    assert cut.finish_reason is FinishReason.STOP_STRING
    assert cut.token_ids == plain.generation.completions[i].token_ids[: len(cut.token_ids)]


async def test_a_rollout_leaves_no_record(server: Server) -> None:
    result = await server.client.generate(ASKED, purpose=Purpose.ROLLOUT)
    assert not result.recorded
    assert server.recorded() == []


async def test_a_full_event_log_serves_unrecorded_and_counts(tmp_path: Path) -> None:
    async with serving(tmp_path, log=MemoryEventLog(max_bytes=1)) as server:
        result = await server.client.generate(ASKED)
        assert not result.recorded
        assert result.generation.completions
        assert server.shop.sample("attune_generations_unrecorded_total", reason="log_slow") == 1
        server.log.max_bytes = None
        await eventually(lambda: server.recorded() == [result.generation])


async def test_a_chosen_id_counts_once_and_may_be_tried_again(server: Server) -> None:
    chosen = uuid7()
    with pytest.raises(RevisionUnknown):
        await server.client.generate(ASKED, generation_id=chosen, revision="77")
    assert (await server.client.generate(ASKED, generation_id=chosen)).generation.id == chosen
    with pytest.raises(GenerationIdReused):
        await server.client.generate(ASKED, generation_id=chosen)
    assert len(server.recorded()) == 1


async def test_asked_again_under_its_id_by_one_who_got_no_answer_it_says_the_same(server: Server) -> None:
    """A restarted server knows nothing of the ids that were used; the event log may hold the first answer."""
    chosen = uuid7()
    first = (await server.client.generate(ASKED, generation_id=chosen, completions=3)).generation
    server.recorder.release("test", chosen)
    again = (await server.client.generate(ASKED, generation_id=chosen, completions=3)).generation
    assert again.completions == first.completions
    assert again.sampling == first.sampling
    other = (await server.client.generate(ASKED, completions=3)).generation
    assert [c.text for c in other.completions] != [c.text for c in first.completions]


async def test_a_cancelled_call_frees_its_rows_and_its_id(server: Server) -> None:
    chosen = uuid7()
    server.engine.pause("so that it waits")
    asked = asyncio.create_task(server.client.generate(ASKED, generation_id=chosen, completions=4))
    await eventually(lambda: server.engine.queued_completions == 4)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    await eventually(lambda: server.engine.queued_completions == 0)
    server.engine.resume()
    assert (await server.client.generate(ASKED, generation_id=chosen)).recorded
    assert server.shop.sample("attune_generation_requests_total", purpose="user", outcome="cancelled") == 1


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"temperature": 0.0}, "sampling.temperature"),
        ({"temperature": float("nan")}, "sampling.temperature"),
        ({"top_p": 0.0}, "sampling.top_p"),
        ({"completions": 65}, "sampling.completions"),
        ({"max_tokens": 0}, "sampling.max_tokens"),
        ({"stop": [""]}, "sampling.stop"),
        ({"generation_id": "seven"}, "generation_id"),
        ({"subject_id": "x" * 300}, "subject_id"),
        ({"purpose": Purpose.ROLLOUT, "top_p": 0.9}, "sampling.top_p"),
        ({"purpose": Purpose.ROLLOUT, "top_k": 5}, "sampling.top_p"),
    ],
)
async def test_a_bad_request_is_refused_by_field(server: Server, options: dict, field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        await server.client.generate(ASKED, **options)
    assert [v.field for v in raised.value.violations] == [field]


@pytest.mark.parametrize("prompt", ["", "   ", Prompt(text=""), [{"role": "wizard", "content": "hm"}], []])
async def test_an_empty_or_odd_prompt_is_refused(server: Server, prompt) -> None:
    with pytest.raises(InvalidInput):
        await server.client.generate(prompt)


async def test_a_prompt_longer_than_the_context_is_refused(server: Server) -> None:
    with pytest.raises(PromptTooLong):
        await server.client.generate("Where is my order? " * 40)


async def test_pins(server: Server) -> None:
    two = server.shop.publish()
    with pytest.raises(RevisionNotLoaded):
        await server.client.generate(ASKED, revision="2")
    server.shop.revisions.preload(two, 0)
    assert (await server.client.generate(ASKED, revision="2")).generation.revision == two
    assert (await server.client.generate(ASKED)).generation.revision.endswith("/1")
    with pytest.raises(RevisionUnknown):
        await server.client.generate(ASKED, revision="canary")


async def test_a_swap_under_load_mislabels_and_aborts_nothing(server: Server) -> None:
    loaded = server.shop.revisions.loaded
    policies = {loaded.live: live(server)}
    asked = [asyncio.create_task(server.client.generate(f"{ASKED} {i}", completions=2)) for i in range(12)]
    for _ in range(2):
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        await server.shop.promote(server.shop.publish())
        policies[loaded.live] = live(server)
        asked += [asyncio.create_task(server.client.generate(f"{ASKED} {i}", completions=2)) for i in range(12)]
    results = await asyncio.gather(*asked)
    seen = {result.generation.revision for result in results}
    assert {loaded.live, "policies/support/revisions/1"} <= seen <= set(policies)
    for result in results:
        for i, completion in enumerate(result.generation.completions):
            expected = recomputed(policies[result.generation.revision], result.generation, i)
            assert completion.logprobs == pytest.approx(expected, abs=1e-5)


async def test_old_and_new_weights_write_side_by_side(server: Server) -> None:
    old = live(server)
    async with aclosing(server.client.stream(ASKED, completions=16, max_tokens=40, seed=1)) as steps:
        first = await anext(steps)
        await server.shop.promote(server.shop.publish())
        new = (await server.client.generate(ASKED)).generation
        *_, final = [step async for step in steps]
    assert isinstance(first, Delta)
    assert isinstance(final, GenerationResult)
    assert (new.revision[-1], final.generation.revision[-1]) == ("2", "1")
    for i, completion in enumerate(final.generation.completions):
        assert completion.logprobs == pytest.approx(recomputed(old, final.generation, i), abs=1e-5)


async def test_a_call_without_deadline_is_refused(server: Server) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await policy_pb2_grpc.PolicyServiceStub(channel).Generate(policy_pb2.GenerateRequest(app_id="test"))
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_without_a_revision_the_server_says_so(server: Server) -> None:
    server.shop.revisions.loaded._aliases.clear()
    with pytest.raises(NoRevision):
        await server.client.generate(ASKED)


async def test_many_callers_share_the_engine(server: Server) -> None:
    async with AsyncClient(app_id="other", policy_address=server.address, retry=NO_RETRY) as other:
        asked = [(server.client if i % 2 else other).generate(f"{ASKED} {i}", seed=i) for i in range(30)]
        together = await asyncio.gather(*asked)
        alone = [await server.client.generate(f"{ASKED} {i}", seed=i) for i in range(0, 30, 7)]
    assert [r.texts for r in together[::7]][: len(alone)] == [r.texts for r in alone]
