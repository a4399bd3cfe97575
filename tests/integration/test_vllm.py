"""The policy server on a real vLLM, as a process of its own: what every engine owes, and swaps in place."""

from __future__ import annotations

import asyncio
import os
import signal
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import pytest_asyncio
from attune.client import NO_RETRY, AsyncClient, GenerationResult
from attune.client.control import AsyncPolicyControlClient
from attune.domain.errors import (
    CheckpointRefused,
    DeadlineUnattainable,
    PromptTooLong,
    QueueFull,
    RevisionNotLoaded,
    ServerUnavailable,
)
from attune.domain.generations import FinishReason, Generation, Purpose
from attune.domain.revisions import RevisionName
from attune.modeling.loading import LoadedPolicy, load_policy
from attune.platform.lifecycle import EXIT_FAILED
from openai import AsyncOpenAI
from safetensors.torch import load_file, save_file
from support.eventually import eventually
from support.vllm import MODEL, SHAPE, VllmPolicy, vllm_policy
from unit.policy.serving import recomputed

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]
ASKED = "Where is my order 4711?"
START_S, ROOM = 180.0, 8
TOLERANCE = 2e-3
"""Nats by which two orders of the same sums may differ."""


@pytest.fixture(scope="module")
def policy(vllm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmPolicy]:
    """One server for all tests here; whatever is live, answers name it."""
    folder = tmp_path_factory.mktemp("vllm")
    # Fewer tokens a step than a swap moves back to before their prefill.
    settings = (f"engine.running={ROOM}", "engine.queued=128", "vllm.arguments.max_num_batched_tokens=256")
    with vllm_policy(vllm_python, folder, *settings) as started:
        asyncio.run(until_serving(started))
        yield started
        assert started.stop() == 0, started.log


async def until_serving(policy: VllmPolicy) -> None:
    async with AsyncClient(app_id="test", policy_address=policy.app, retry=NO_RETRY) as client:
        try:
            await client.wait_until_serving(START_S)
        except TimeoutError:
            pytest.fail(policy.log)


@pytest_asyncio.fixture
async def client(policy: VllmPolicy) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(app_id="test", policy_address=policy.app, retry=NO_RETRY) as one:
        yield one


@pytest_asyncio.fixture
async def control(policy: VllmPolicy) -> AsyncIterator[AsyncPolicyControlClient]:
    async with AsyncPolicyControlClient(policy.control, NO_RETRY) as one:
        yield one


@cache
def weights(policy_folder: Path, revision: str) -> LoadedPolicy:
    return load_policy(policy_folder / f"candidate-{RevisionName.parse(revision).number}")


def check_labels(policy: VllmPolicy, generation: Generation) -> None:
    """Every token's log-probability is that of the revision whose span it stands in, and spans leave none out."""
    for i, completion in enumerate(generation.completions):
        ends = [span.first_token + span.tokens for span in completion.spans]
        assert [span.first_token for span in completion.spans] == [0, *ends[:-1]]
        assert ends[-1] == len(completion.token_ids) == len(completion.logprobs)
        for span, end in zip(completion.spans, ends, strict=True):
            expected = recomputed(weights(policy.folder, span.revision), generation, i)[span.first_token : end]
            assert completion.logprobs[span.first_token : end] == pytest.approx(expected, abs=TOLERANCE), span


async def live(control: AsyncPolicyControlClient) -> str:
    return (await control.status()).live_revision


async def until_live(control: AsyncPolicyControlClient, revision: str) -> None:
    async with asyncio.timeout(60):
        while await live(control) != revision:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def until_idle(control: AsyncPolicyControlClient) -> None:
    async with asyncio.timeout(30):
        while (status := await control.status()).running_completions + status.queued_completions:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def measured(policy: VllmPolicy, name: str) -> float:
    """A figure of the metrics page, or the sum of those of that name."""
    with urllib.request.urlopen(f"http://127.0.0.1:{policy.metrics_port}/metrics") as page:
        lines = [line for line in page.read().decode().splitlines() if line.partition("{")[0].split()[0] == name]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


@pytest.mark.parametrize(
    "how",
    [{}, {"temperature": 0.6}, {"temperature": 1.7, "top_p": 0.5}, {"temperature": 0.8, "top_k": 3}, {"top_k": 1}],
    ids=["plain", "cold", "top-p", "top-k", "greedy"],
)
async def test_log_probabilities_are_those_at_the_temperature(
    policy: VllmPolicy, client: AsyncClient, how: dict
) -> None:
    result = await client.generate(ASKED, completions=4, max_tokens=20, seed=7, **how)
    check_labels(policy, result.generation)
    different = {c.token_ids for c in result.generation.completions}
    assert (len(different) == 1) == (how.get("top_k") == 1)
    assert result.recorded


async def test_a_seed_repeats_its_answer_alone_and_in_a_crowd(client: AsyncClient) -> None:
    alone = (await client.generate(ASKED, seed=5, completions=2, max_tokens=16)).generation
    crowd = [client.generate(f"{ASKED} {i}", seed=i, max_tokens=16) for i in range(12)]
    again, *_ = await asyncio.gather(client.generate(ASKED, seed=5, completions=2, max_tokens=16), *crowd)
    other = (await client.generate(ASKED, seed=6, completions=2, max_tokens=16)).generation
    assert [c.token_ids for c in again.generation.completions] == [c.token_ids for c in alone.completions]
    assert not {c.token_ids for c in other.completions} & {c.token_ids for c in alone.completions}


async def test_a_stream_gives_what_the_whole_answer_gives(policy: VllmPolicy, client: AsyncClient) -> None:
    whole = (await client.generate(ASKED, seed=9, completions=2, max_tokens=24)).generation
    deltas: dict[int, list[int]] = {0: [], 1: []}
    texts = ["", ""]
    async with aclosing(client.stream(ASKED, seed=9, completions=2, max_tokens=24)) as steps:
        async for step in steps:
            if isinstance(step, GenerationResult):
                final = step.generation
            else:
                deltas[step.index] += step.token_ids
                texts[step.index] += step.text
    check_labels(policy, final)
    assert [list(c.token_ids) for c in whole.completions] == list(deltas.values())
    assert [c.text for c in whole.completions] == texts == [c.text for c in final.completions]


async def test_a_stop_string_ends_a_completion_and_is_cut(policy: VllmPolicy, client: AsyncClient) -> None:
    plain = (await client.generate(ASKED, seed=3, max_tokens=40)).generation.completions[0]
    stop = plain.text[5:7]
    result = await client.generate(ASKED, seed=3, max_tokens=40, stop=[stop])
    stopped = result.generation.completions[0]
    assert stopped.finish_reason is FinishReason.STOP_STRING
    assert stopped.text == plain.text[: plain.text.index(stop)]
    assert stopped.token_ids == plain.token_ids[: len(stopped.token_ids)]
    check_labels(policy, result.generation)


async def test_limits_and_the_eos_end_a_completion(client: AsyncClient) -> None:
    with pytest.raises(PromptTooLong):
        await client.generate(ASKED * 20)
    results = await asyncio.gather(*(client.generate(ASKED, seed=i, completions=8, max_tokens=500) for i in range(8)))
    found = [(r.generation, c) for r in results for c in r.generation.completions]
    for generation, completion in found:
        if completion.finish_reason is FinishReason.LENGTH:
            assert len(generation.prompt_token_ids) + len(completion.token_ids) == 128
    with_eos = [c for _, c in found if c.finish_reason is FinishReason.EOS]
    assert with_eos
    assert all(1 in c.token_ids[-1:] and 1 not in c.token_ids[:-1] for c in with_eos)


async def test_a_cancelled_stream_leaves_the_engine(
    policy: VllmPolicy, client: AsyncClient, control: AsyncPolicyControlClient
) -> None:
    wasted = measured(policy, "attune_generation_wasted_tokens_total")
    stream = client.stream(ASKED, completions=8 * ROOM, max_tokens=100)  # more than is written before it is cancelled
    async for delta in stream:
        if delta.token_ids and delta.finish_reason is None:
            break
    await stream.aclose()
    await until_idle(control)
    assert measured(policy, "attune_generation_wasted_tokens_total") > wasted
    await client.generate(ASKED, max_tokens=2)  # vLLM tells what runs when it takes a step
    await eventually(lambda: measured(policy, "vllm:num_requests_running") == 0)


async def test_users_go_before_rollouts(client: AsyncClient, control: AsyncPolicyControlClient) -> None:
    await control.pause("so that all wait")
    order: list[Purpose] = []

    async def ask(purpose: Purpose) -> None:
        await client.generate(ASKED, purpose=purpose, completions=ROOM, max_tokens=90, timeout_s=300)
        order.append(purpose)

    asked = [asyncio.create_task(ask(Purpose.ROLLOUT)) for _ in range(12)]
    asked.append(asyncio.create_task(ask(Purpose.USER)))
    async with asyncio.timeout(60):
        while (await control.status()).queued_completions < 13 * ROOM:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert (await control.status()).paused
    await control.resume()
    await asyncio.gather(*asked)
    # Though it came last; a short rollout may overtake its answer, which is recorded first.
    assert Purpose.USER in order[:3]


async def test_a_full_queue_refuses_with_a_time_to_wait(client: AsyncClient, control: AsyncPolicyControlClient) -> None:
    await control.pause("so that they wait")
    waiting = [asyncio.create_task(client.generate(ASKED, completions=64, max_tokens=2)) for _ in range(2)]
    async with asyncio.timeout(10):
        while (await control.status()).queued_completions < 128:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    with pytest.raises(QueueFull) as raised:
        await client.generate(ASKED, completions=1, max_tokens=2)
    assert raised.value.retry_after_s
    await control.resume()
    assert [len(result.generation.completions) for result in await asyncio.gather(*waiting)] == [64, 64]


async def test_what_cannot_be_done_in_time_is_refused_before_its_prompt_is_read(
    policy: VllmPolicy, client: AsyncClient, control: AsyncPolicyControlClient
) -> None:
    await asyncio.gather(*(client.generate(ASKED, completions=ROOM, max_tokens=40) for _ in range(6)))  # so it learns
    await control.pause("so that they wait")
    waiting = asyncio.create_task(client.generate(ASKED, completions=64, max_tokens=100))
    async with asyncio.timeout(10):
        while (await control.status()).queued_completions < 64:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    prompts = measured(policy, "vllm:prompt_tokens_total")
    with pytest.raises(DeadlineUnattainable) as raised:
        await client.generate(ASKED, max_tokens=100, timeout_s=0.3)
    assert raised.value.retry_after_s
    assert measured(policy, "vllm:prompt_tokens_total") == prompts
    await control.resume()
    assert len((await waiting).generation.completions) == 64


async def test_a_swap_under_streams_aborts_nothing_and_says_who_wrote_what(
    policy: VllmPolicy, client: AsyncClient, control: AsyncPolicyControlClient
) -> None:
    before, frozen = await live(control), measured(policy, "attune_generation_frozen_seconds_count")
    begun = asyncio.Semaphore(0)

    async def stream(i: int) -> Generation:
        async with aclosing(client.stream(f"{ASKED} {i}", seed=i, max_tokens=90)) as steps:
            async for step in steps:
                if isinstance(step, GenerationResult):
                    return step.generation
                begun.release()
        raise AssertionError("a stream ended without its final answer")

    after = policy.publish()
    streams = [asyncio.create_task(stream(i)) for i in range(ROOM)]
    for _ in range(ROOM):
        await begun.acquire()
    policy.promote(after)
    whole = [client.generate(f"{ASKED} {i}", seed=i, max_tokens=90) for i in range(ROOM)]
    streamed, answered = await asyncio.gather(asyncio.gather(*streams), asyncio.gather(*whole))
    await until_live(control, after)
    generations = [*streamed, *(result.generation for result in answered)]
    for generation in generations:
        check_labels(policy, generation)
        for completion in generation.completions:
            assert len(completion.token_ids) == 90 or completion.finish_reason is FinishReason.EOS
    spans = [[s.revision for s in g.completions[0].spans] for g in generations]
    assert [before, after] in spans
    assert all(g.revision == names[0] for g, names in zip(generations, spans, strict=True))
    late = (await client.generate(ASKED, max_tokens=8)).generation
    assert [s.revision for s in late.completions[0].spans] == [after]
    assert measured(policy, "attune_generation_frozen_seconds_count") == frozen + 1


async def test_only_what_is_live_may_be_asked_for_and_the_one_before_comes_back(
    policy: VllmPolicy, client: AsyncClient, control: AsyncPolicyControlClient
) -> None:
    before, after = await live(control), policy.publish()
    await control.load_revision(after)
    policy.promote(after, "canary")
    for pin in (after, after.rpartition("/")[2]):
        with pytest.raises(RevisionNotLoaded, match="one revision at a time"):
            await client.generate(ASKED, revision=pin)
    assert list((await control.status()).loaded_revisions) == [before]
    assert (await client.generate(ASKED, max_tokens=4, revision=before)).generation.revision == before
    policy.promote(after)
    await until_live(control, after)
    for pin in (before, before.rpartition("/")[2]):
        with pytest.raises(RevisionNotLoaded, match="one revision at a time"):
            await client.generate(ASKED, revision=pin)
    policy.promote(before)
    await until_live(control, before)
    back = (await client.generate(ASKED, max_tokens=12)).generation
    assert [s.revision for s in back.completions[0].spans] == [before]
    check_labels(policy, back)


async def test_bad_revisions_are_refused_and_the_live_one_serves_on(
    policy: VllmPolicy, client: AsyncClient, control: AsyncPolicyControlClient
) -> None:
    before, refused = await live(control), measured(policy, "attune_policy_load_refused_total")
    wider = policy.publish(replace(SHAPE, layers=1))
    name = MODEL.revision(policy.registry.next_number(MODEL))
    broken = weights(policy.folder, before).model  # its folder, with one number that is none
    folder = policy.folder / f"candidate-{name.number}"
    broken.save_pretrained(str(folder))
    weights(policy.folder, before).tokenizer.save_pretrained(str(folder))
    tensors = load_file(folder / "model.safetensors")
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    policy.registry.publish(name, folder, epoch=policy.epoch)
    with pytest.raises(CheckpointRefused, match="finite"):
        await control.load_revision(str(name))
    policy.promote(wider)
    async with asyncio.timeout(60):
        while measured(policy, "attune_policy_load_refused_total") < refused + 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert await live(control) == before
    check_labels(policy, (await client.generate(ASKED, max_tokens=8)).generation)
    policy.promote(before)


async def test_openais_clients_are_answered(policy: VllmPolicy, control: AsyncPolicyControlClient) -> None:
    url = f"http://127.0.0.1:{policy.http_port}/v1"
    async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as openai:
        answer = await openai.chat.completions.create(
            model="support", messages=[{"role": "user", "content": ASKED}], logprobs=True, max_tokens=5
        )
        models = [model.id async for model in openai.models.list()]
    assert answer.system_fingerprint == await live(control)
    assert answer.choices[0].logprobs.content
    number = answer.system_fingerprint.rpartition("/")[2]
    assert {"support", f"support@{number}"} <= set(models) <= {"support", "support@latest", f"support@{number}"}


async def test_another_family_is_written_and_swapped_rightly_and_a_kill_leaves_nothing(
    vllm_python: Path, tmp_path: Path
) -> None:
    with vllm_policy(vllm_python, tmp_path, shape=replace(SHAPE, family="gpt2")) as policy:
        await until_serving(policy)
        async with (
            AsyncClient(app_id="test", policy_address=policy.app, retry=NO_RETRY) as client,
            AsyncPolicyControlClient(policy.control, NO_RETRY) as control,
        ):
            check_labels(policy, (await client.generate(ASKED, completions=4, temperature=0.8)).generation)
            after = policy.publish()
            policy.promote(after)
            await until_live(control, after)
            check_labels(policy, (await client.generate(ASKED, completions=4, temperature=0.8)).generation)
        assert policy.workers()
        policy.kill()
        await eventually(lambda: not policy.workers(), 30)


async def test_a_failure_of_vllm_ends_the_server_and_who_waits_is_told(vllm_python: Path, tmp_path: Path) -> None:
    with vllm_policy(vllm_python, tmp_path, f"engine.running={ROOM}") as policy:
        await until_serving(policy)
        async with AsyncClient(app_id="test", policy_address=policy.app, retry=NO_RETRY) as client:
            stream = client.stream(ASKED, completions=8 * ROOM, max_tokens=100)  # more than is written before the kill
            await anext(stream)
            os.kill(max(policy.workers()), signal.SIGKILL)
            with pytest.raises(ServerUnavailable):
                [step async for step in stream]
        assert policy.process
        await eventually(lambda: policy.process.poll() is not None, 60)
        assert policy.process.returncode == EXIT_FAILED
        assert "vLLM has ended" in policy.log
        await eventually(lambda: not policy.workers(), 30)
