"""The engine: many callers at once, users first, cancellation, limits, and a failure that ends it."""

from __future__ import annotations

import asyncio
import math
import os
import sys
import time
from contextlib import aclosing
from pathlib import Path

import pytest
import torch
from attune.domain.errors import DeadlineUnattainable, PromptTooLong, QueueFull, ServerUnavailable
from attune.domain.generations import FinishReason, Purpose, Sampling
from attune.modeling.loading import LoadedPolicy, load_policy
from attune.modeling.revisions import Held
from attune.policy.engine import Engine
from attune.policy.jobs import EngineLimits, Job
from attune.policy.metrics import PolicyMetrics
from prometheus_client import CollectorRegistry
from support.eventually import eventually
from tiny_models import tiny_policy_folder


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> LoadedPolicy:
    loaded = load_policy(tiny_policy_folder(tmp_path_factory.mktemp("model") / "policy"))
    weight = loaded.model.get_output_embeddings().weight.detach()
    head = torch.nn.Linear(weight.shape[1], weight.shape[0])  # by whose bias no EOS is drawn, so that lengths are known
    head.weight.data, head.bias.data = weight.clone(), torch.zeros(weight.shape[0])
    head.bias.data[loaded.tokenizer.eos_token_id] = -1e4
    loaded.model.set_output_embeddings(head)
    return loaded


class Running:
    def __init__(self, limits: EngineLimits) -> None:
        self.measured = CollectorRegistry()
        self.engine = Engine(limits, PolicyMetrics(self.measured))
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Running:
        self.task = asyncio.create_task(self.engine.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.task
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def sample(self, name: str) -> float:
        return self.measured.get_sample_value(name) or 0.0


def job(
    policy: LoadedPolicy,
    *,
    prompt: tuple[int, ...] = (5, 6, 7),
    purpose: Purpose = Purpose.USER,
    deadline: float = math.inf,
    **how,
) -> Job:
    sampling = Sampling(**({"max_tokens": 8, "seed": 3} | how))
    return Job(Held("policies/support/revisions/1", policy), prompt, sampling, purpose, deadline=deadline)


async def tokens(engine: Engine, asked: Job) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    async with aclosing(engine.generate(asked)) as events:
        async for event in events:
            found.setdefault(event.index, []).extend(event.token_ids)
    return found


async def test_the_same_request_alone_and_in_a_crowd(policy: LoadedPolicy) -> None:
    async with Running(EngineLimits(running=64)) as running:
        alone = await tokens(running.engine, job(policy, seed=1, completions=2))
        crowd = [job(policy, prompt=tuple(range(5, 8 + i)), seed=100 + i, max_tokens=4 + i) for i in range(12)]
        found = await asyncio.gather(
            *(tokens(running.engine, other) for other in crowd[:6]),
            tokens(running.engine, job(policy, seed=1, completions=2)),
            *(tokens(running.engine, other) for other in crowd[6:]),
        )
    assert found[6] == alone
    assert alone[0] != alone[1]


async def test_max_tokens_and_the_context_end_a_completion(policy: LoadedPolicy) -> None:
    async with Running(EngineLimits()) as running:
        short = await tokens(running.engine, job(policy, max_tokens=5))
        full = await tokens(running.engine, job(policy, prompt=(7,) * 60, max_tokens=50))
        with pytest.raises(PromptTooLong):
            await tokens(running.engine, job(policy, prompt=(7,) * 64))
    assert len(short[0]) == 5
    assert len(full[0]) == 4  # context 64


async def test_the_eos_ends_a_completion_and_is_part_of_it(tmp_path: Path) -> None:
    policy = load_policy(tiny_policy_folder(tmp_path / "policy"))
    eos = int(policy.tokenizer.eos_token_id)
    async with Running(EngineLimits()) as running:
        ended = []
        for seed in range(40):
            async with aclosing(running.engine.generate(job(policy, seed=seed, max_tokens=40))) as events:
                ended += [event async for event in events]
    with_eos = [event for event in ended if event.finish_reason is FinishReason.EOS]
    assert with_eos
    assert all(event.token_ids[-1] == eos and eos not in event.token_ids[:-1] for event in with_eos)
    assert all(eos not in event.token_ids for event in ended if event.finish_reason is FinishReason.LENGTH)


async def test_users_go_before_rollouts(policy: LoadedPolicy) -> None:
    async with Running(EngineLimits(running=1)) as running:
        running.engine.pause("so that both wait")
        order: list[str] = []

        async def ask(name: str, purpose: Purpose) -> None:
            await tokens(running.engine, job(policy, purpose=purpose))
            order.append(name)

        asked = [asyncio.create_task(ask(f"rollout {i}", Purpose.ROLLOUT)) for i in range(3)]
        await eventually(lambda: running.engine.queued_completions == 3)
        asked.append(asyncio.create_task(ask("user", Purpose.USER)))
        await eventually(lambda: running.engine.queued_completions == 4)
        running.engine.resume()
        await asyncio.gather(*asked)
    assert order == ["user", "rollout 0", "rollout 1", "rollout 2"]


async def test_small_rollouts_do_not_overtake_a_large_user(policy: LoadedPolicy) -> None:
    async with Running(EngineLimits(running=4)) as running:
        running.engine.pause("so that all wait")
        order: list[str] = []

        async def ask(name: str, **how) -> None:
            await tokens(running.engine, job(policy, **how))
            order.append(name)

        asked = [asyncio.create_task(ask("small user", completions=2, max_tokens=20))]
        asked.append(asyncio.create_task(ask("large user", completions=4)))
        asked += [asyncio.create_task(ask("rollout", purpose=Purpose.ROLLOUT)) for _ in range(4)]
        await eventually(lambda: running.engine.queued_completions == 10)
        running.engine.resume()
        await asyncio.gather(*asked)
    assert order == ["small user", "large user", *["rollout"] * 4]


async def test_a_queue_full_of_rollouts_refuses_no_user(policy: LoadedPolicy) -> None:
    async with Running(EngineLimits(queued=2)) as running:
        running.engine.pause("so that they wait")
        rollouts = asyncio.create_task(tokens(running.engine, job(policy, completions=2, purpose=Purpose.ROLLOUT)))
        await eventually(lambda: running.engine.queued_completions == 2)
        with pytest.raises(QueueFull):
            await tokens(running.engine, job(policy, purpose=Purpose.ROLLOUT))
        user = asyncio.create_task(tokens(running.engine, job(policy)))
        await eventually(lambda: running.engine.queued_completions == 3)
        running.engine.resume()
        assert (len(await user), len(await rollouts)) == (1, 2)


async def learn_the_pace(policy: LoadedPolicy, running: Running) -> None:
    """Answers some, one after another, and then holds what comes."""
    await asyncio.gather(*(tokens(running.engine, job(policy)) for _ in range(4)))
    running.engine.pause("so that jobs wait")


async def test_a_deadline_before_the_queue_is_done_is_refused_at_once(policy: LoadedPolicy) -> None:
    async with Running(EngineLimits(running=1)) as running:
        await learn_the_pace(policy, running)
        before = running.sample("attune_generation_tokens_total")
        first = asyncio.create_task(tokens(running.engine, job(policy, max_tokens=50)))
        await eventually(lambda: running.engine.queued_completions == 1)
        with pytest.raises(DeadlineUnattainable) as raised:
            await tokens(running.engine, job(policy, deadline=time.monotonic()))
        assert raised.value.retry_after_s
        patient = asyncio.create_task(tokens(running.engine, job(policy, deadline=time.monotonic() + 60)))
        await eventually(lambda: running.engine.queued_completions == 2)
        running.engine.resume()
        assert (len((await first)[0]), len((await patient)[0])) == (50, 8)
        assert running.sample("attune_generation_tokens_total") == before + 58


async def test_room_is_refused_before_a_prompt_is_there(policy: LoadedPolicy) -> None:
    async with Running(EngineLimits(running=1, queued=4)) as running:
        await learn_the_pace(policy, running)
        one, soon, never = Sampling(max_tokens=8), time.monotonic(), math.inf
        running.engine.check_room(policy, one, Purpose.USER, soon)
        waiting = asyncio.create_task(tokens(running.engine, job(policy, completions=4, purpose=Purpose.ROLLOUT)))
        await eventually(lambda: running.engine.queued_completions == 4)
        with pytest.raises(QueueFull):
            running.engine.check_room(policy, one, Purpose.ROLLOUT, never)
        running.engine.check_room(policy, one, Purpose.USER, soon)
        running.engine.resume()
        await waiting
    with pytest.raises(ServerUnavailable):
        running.engine.check_room(policy, one, Purpose.USER, never)


async def test_rollouts_that_wait_do_not_count_against_a_users_deadline(policy: LoadedPolicy) -> None:
    async with Running(EngineLimits(running=1)) as running:
        running.engine._queue.pace.saw_turn(1.0)  # seconds a token, so that 50 tokens and 8 are not done in 30
        running.engine._queue.pace.saw_end(1, 1)
        running.engine.pause("so that jobs wait")
        rollout = asyncio.create_task(tokens(running.engine, job(policy, max_tokens=50, purpose=Purpose.ROLLOUT)))
        await eventually(lambda: running.engine.queued_completions == 1)
        deadline = time.monotonic() + 30
        with pytest.raises(DeadlineUnattainable):
            await tokens(running.engine, job(policy, deadline=deadline, purpose=Purpose.ROLLOUT))
        user = asyncio.create_task(tokens(running.engine, job(policy, deadline=deadline)))
        await eventually(lambda: user.done() or running.engine.queued_completions == 2)
        running.engine.resume()
        assert (len((await user)[0]), len((await rollout)[0])) == (8, 50)


async def test_who_waited_past_the_deadline_is_refused_before_the_prompt_is_read(policy: LoadedPolicy) -> None:
    async with Running(EngineLimits(running=1)) as running:
        await learn_the_pace(policy, running)
        before, deadline = running.sample("attune_generation_tokens_total"), time.monotonic() + 0.1
        late = asyncio.create_task(tokens(running.engine, job(policy, deadline=deadline)))
        await eventually(lambda: time.monotonic() > deadline)
        running.engine.resume()
        with pytest.raises(DeadlineUnattainable):
            await late
        assert running.sample("attune_generation_tokens_total") == before
        assert len((await tokens(running.engine, job(policy)))[0]) == 8


@pytest.mark.parametrize(
    ("limits", "sizes"),
    [
        (EngineLimits(stream_tokens=8, stream_s=3600), [1, 8, 8, 3]),
        (EngineLimits(stream_tokens=1, stream_s=3600), [1] * 20),
        (EngineLimits(stream_tokens=1000, stream_s=0), [1] * 20),
    ],
    ids=["by eights", "by ones", "at once"],
)
async def test_a_stream_is_told_of_tokens_in_company(
    policy: LoadedPolicy, limits: EngineLimits, sizes: list[int]
) -> None:
    whole = Job(**vars(job(policy, max_tokens=20)) | {"is_streaming": True})
    async with Running(limits) as running, aclosing(running.engine.generate(whole)) as events:
        found = [event async for event in events]
    assert [len(event.token_ids) for event in found] == sizes
    assert [len(event.logprobs) for event in found] == sizes


async def test_a_pause_holds_the_queue_and_lets_running_ones_end(policy: LoadedPolicy) -> None:
    async with Running(EngineLimits()) as running:
        stream = running.engine.generate(Job(**vars(job(policy, max_tokens=50)) | {"is_streaming": True}))
        await anext(stream)
        running.engine.pause("maintenance")
        waiting = asyncio.create_task(tokens(running.engine, job(policy)))
        left = [event async for event in stream]
        assert left[-1].finish_reason is FinishReason.LENGTH
        assert running.engine.queued_completions == 1
        assert not waiting.done()
        running.engine.resume()
        assert len((await waiting)[0]) == 8


async def test_cancellation_frees_the_rows_and_counts_the_waste(policy: LoadedPolicy) -> None:
    async with Running(EngineLimits(running=2)) as running:
        stream = running.engine.generate(
            Job(**vars(job(policy, max_tokens=55, completions=2)) | {"is_streaming": True})
        )
        await anext(stream)
        await stream.aclose()
        assert len((await tokens(running.engine, job(policy)))[0]) == 8  # it would not fit beside the others
        await eventually(lambda: running.engine.running_completions == 0)
        assert running.sample("attune_generation_wasted_tokens_total") >= 2


async def test_a_job_cancelled_in_the_queue_leaves_it(policy: LoadedPolicy) -> None:
    async with Running(EngineLimits()) as running:
        running.engine.pause("so that it waits")
        waiting = asyncio.create_task(tokens(running.engine, job(policy)))
        await eventually(lambda: running.engine.queued_completions == 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await eventually(lambda: running.engine.queued_completions == 0)
        running.engine.resume()
        assert len((await tokens(running.engine, job(policy)))[0]) == 8
        assert running.sample("attune_generation_tokens_total") == 8  # none for the one that had gone


async def test_a_full_queue_refuses_with_a_time_to_wait(policy: LoadedPolicy) -> None:
    async with Running(EngineLimits(queued=3)) as running:
        running.engine.pause("so that they wait")
        waiting = asyncio.create_task(tokens(running.engine, job(policy, completions=2)))
        await eventually(lambda: running.engine.queued_completions == 2)
        with pytest.raises(QueueFull) as raised:
            await tokens(running.engine, job(policy, completions=2))
        assert raised.value.retry_after_s
        running.engine.resume()
        assert len(await waiting) == 2


async def test_a_failure_of_the_thread_ends_the_engine_and_who_waits_is_told(tmp_path: Path) -> None:
    broken = load_policy(tiny_policy_folder(tmp_path / "broken"))
    broken.model.set_input_embeddings(torch.nn.Embedding(4, 32))
    running = Running(EngineLimits())
    running.task = asyncio.create_task(running.engine.run())
    with pytest.raises(ServerUnavailable):
        await tokens(running.engine, job(broken, prompt=(250,)))
    with pytest.raises(IndexError):
        await running.task
    with pytest.raises(ServerUnavailable):
        await tokens(running.engine, job(broken))


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own elsewhere")
async def test_its_thread_may_stand_behind_the_others_of_the_process() -> None:
    lower = min(19, os.getpriority(os.PRIO_PROCESS, 0) + 3)

    def priorities() -> set[int]:
        return {os.getpriority(os.PRIO_PROCESS, int(task.name)) for task in Path("/proc/self/task").iterdir()}

    async with Running(EngineLimits(running=1, nice=3)):
        await eventually(lambda: lower in priorities())
