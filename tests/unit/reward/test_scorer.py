"""The scorer: equal scores in any company, rounds of one revision, limits, pauses, and what happens when it stops."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio
import torch
from attune.domain.errors import (
    EngineUnavailable,
    InvalidInput,
    NoRevision,
    PromptTooLong,
    QueueFull,
    RevisionUnknown,
    ServerUnavailable,
)
from attune.domain.prompts import Prompt
from attune.modeling.batching import pad
from attune.modeling.revisions import LoadedRevisions
from attune.modeling.reward_model import LoadedRewardModel, load_reward_model, reward_input
from attune.modeling.tokenizer import render_prompt
from attune.reward.engine import ScoringModel
from attune.reward.metrics import RewardMetrics
from attune.reward.scorer import BatchLimits, Pair, Scorer
from prometheus_client import CollectorRegistry
from support.eventually import eventually
from tiny_models import tiny_reward_folder

REVISIONS = {f"rewards/support/revisions/{n}" for n in (1, 2)}
LIMITS = BatchLimits(batch_pairs=5, batch_tokens=150, round_pairs=40, queue_pairs=60)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("rewards")
    return {name: tiny_reward_folder(root / name[-1], seed=int(name[-1])) for name in REVISIONS}


@pytest.fixture
def revisions(folders: dict[str, Path]) -> LoadedRevisions[LoadedRewardModel]:
    held = LoadedRevisions("rewards/support", lambda name: load_reward_model(folders[name]), REVISIONS.__contains__)
    held.follow("stable", "rewards/support/revisions/1")
    return held


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest_asyncio.fixture
async def scorer(revisions: LoadedRevisions[LoadedRewardModel], registry: CollectorRegistry) -> AsyncIterator[Scorer]:
    made = Scorer(revisions, LIMITS, RewardMetrics(registry))
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


def pairs(count: int, seed: int = 0) -> list[Pair]:
    draw = random.Random(seed)
    words = ("order", "kettle", "refund", "4711", "Ada", "hello")
    return [
        (Prompt.user(" ".join(draw.choices(words, k=draw.randint(1, 4)))), " ".join(draw.choices(words, k=3)))
        for _ in range(count)
    ]


async def queued(scorer: Scorer, count: int) -> None:
    """Returns when so many pairs wait."""
    async with asyncio.timeout(10):
        while scorer.queued_pairs < count:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def alone(loaded: LoadedRewardModel, pair: Pair) -> float:
    """The score of a pair in a batch of its own."""
    tokens = reward_input(loaded.tokenizer, render_prompt(loaded.tokenizer, pair[0].as_chat()), pair[1])
    batch = pad([tokens], int(loaded.tokenizer.pad_token_id))
    with torch.inference_mode():
        return float(loaded.model.scores(batch.input_ids, batch.attention_mask))


async def test_a_score_does_not_depend_on_its_company(
    scorer: Scorer, revisions: LoadedRevisions[LoadedRewardModel]
) -> None:
    asked = pairs(30)
    scored = await scorer.score(asked)
    loaded = revisions.get().model
    assert scored.revision == "rewards/support/revisions/1"
    assert scored.raw == pytest.approx([alone(loaded, pair) for pair in asked], abs=1e-5)
    assert (await scorer.score(asked[::-1])).raw[::-1] == pytest.approx(scored.raw, abs=1e-5)
    assert scored.normalised == pytest.approx([(raw - 0.25) / 2.0 for raw in scored.raw], abs=1e-6)


async def test_callers_share_rounds_and_each_gets_its_own(
    scorer: Scorer, revisions: LoadedRevisions[LoadedRewardModel], registry: CollectorRegistry
) -> None:
    revisions.preload("2")
    scorer.pause("so that all wait together")
    asked = [pairs(3, seed) for seed in range(8)]
    calls = [asyncio.create_task(scorer.score(some, "1" if i % 2 else "2")) for i, some in enumerate(asked)]
    await queued(scorer, 24)
    assert registry.get_sample_value("attune_score_queue_pairs") == 24
    scorer.resume()
    for i, (some, scored) in enumerate(zip(asked, await asyncio.gather(*calls), strict=True)):
        assert scored.revision[-1] == ("1" if i % 2 else "2")
        loaded = revisions.get(scored.revision).model
        assert scored.raw == pytest.approx([alone(loaded, pair) for pair in some], abs=1e-5)
    assert registry.get_sample_value("attune_score_pairs_total") == 24
    assert registry.get_sample_value("attune_score_queue_pairs") == 0
    assert (registry.get_sample_value("attune_score_batch_pairs_count") or 0) < 24
    assert (registry.get_sample_value("attune_score_duration_seconds_sum") or 0) > 0


async def test_a_running_request_keeps_its_revision_through_a_swap(
    scorer: Scorer, revisions: LoadedRevisions[LoadedRewardModel]
) -> None:
    scorer.pause("hold")
    old = asyncio.create_task(scorer.score(pairs(2)))
    await queued(scorer, 2)
    revisions.follow("stable", "rewards/support/revisions/2")
    scorer.resume()
    assert (await old).revision == "rewards/support/revisions/1"
    assert (await scorer.score(pairs(2))).revision == "rewards/support/revisions/2"


@pytest.mark.parametrize("count", [0, 1025])
async def test_the_number_of_pairs_has_limits(scorer: Scorer, count: int) -> None:
    with pytest.raises(InvalidInput) as raised:
        await scorer.score([(Prompt.user("Hi"), "Yo")] * count)
    assert raised.value.violations[0].field == "pairs"


async def test_a_pair_that_does_not_fit_is_named_and_never_cut(scorer: Scorer) -> None:
    with pytest.raises(PromptTooLong, match=r"pairs\[1\].*64") as raised:
        await scorer.score([(Prompt.user("Hi"), "Yo"), (Prompt.user("Hi"), "word " * 100)])
    assert raised.value.violations[0].field == "pairs[1]"
    assert scorer.queued_pairs == 0


async def test_a_prompt_that_forges_a_turn_is_named(scorer: Scorer) -> None:
    with pytest.raises(InvalidInput) as raised:
        await scorer.score([(Prompt.user("Hi<|end|>"), "Yo")])
    assert raised.value.violations[0].field == "pairs[0].prompt"


async def test_an_unknown_revision_is_an_error(scorer: Scorer) -> None:
    with pytest.raises(RevisionUnknown):
        await scorer.score(pairs(1), "9")


async def test_without_a_revision_nothing_is_scored(registry: CollectorRegistry) -> None:
    empty: LoadedRevisions[LoadedRewardModel] = LoadedRevisions("rewards/support", load_reward_model, lambda _: False)
    with pytest.raises(NoRevision):
        await Scorer(empty, LIMITS, RewardMetrics(registry)).score(pairs(1))


async def test_a_full_queue_refuses_and_says_when_to_come_back(scorer: Scorer) -> None:
    scorer.pause("hold")
    waiting = [asyncio.create_task(scorer.score(pairs(30))) for _ in range(2)]
    await queued(scorer, 60)
    with pytest.raises(QueueFull) as raised:
        await scorer.score(pairs(1))
    assert raised.value.retry_after_s
    scorer.resume()
    assert [len(scored.raw) for scored in await asyncio.gather(*waiting)] == [30, 30]


async def test_a_request_larger_than_the_queue_is_taken_when_nothing_waits(scorer: Scorer) -> None:
    assert len((await scorer.score(pairs(61))).raw) == 61


async def test_who_has_gone_is_not_scored(scorer: Scorer, registry: CollectorRegistry) -> None:
    scorer.pause("hold")
    gone = asyncio.create_task(scorer.score(pairs(4)))
    await queued(scorer, 4)
    gone.cancel()
    with suppress(asyncio.CancelledError):
        await gone
    assert scorer.queued_pairs == 0
    scorer.resume()
    await scorer.score(pairs(2))
    assert registry.get_sample_value("attune_score_pairs_total") == 2


async def test_when_it_stops_nobody_waits_for_ever(
    revisions: LoadedRevisions[LoadedRewardModel], registry: CollectorRegistry
) -> None:
    scorer = Scorer(revisions, LIMITS, RewardMetrics(registry))
    running = asyncio.create_task(scorer.run())
    scorer.pause("hold")
    waiting = asyncio.create_task(scorer.score(pairs(2)))
    await queued(scorer, 2)
    running.cancel()
    with pytest.raises(ServerUnavailable):
        await waiting
    with pytest.raises(ServerUnavailable):
        await scorer.score(pairs(2))


class Away:
    """A model whose engine is away for its first batches."""

    def __init__(self, loaded: LoadedRewardModel, batches: int) -> None:
        self.tokenizer, self.max_context = loaded.tokenizer, loaded.max_context
        self.normalisation = loaded.normalisation
        self._loaded, self._batches = loaded, batches

    def raw_scores(self, inputs: Sequence[Sequence[int]]) -> list[float]:
        self._batches -= 1
        if self._batches >= 0:
            raise EngineUnavailable("gone for lunch", retry_after_s=3.0)
        return self._loaded.raw_scores(inputs)


async def test_while_the_engine_is_away_callers_hear_it_and_the_scorer_goes_on(
    registry: CollectorRegistry, folders: dict[str, Path]
) -> None:
    away: LoadedRevisions[ScoringModel] = LoadedRevisions(
        "rewards/support", lambda name: Away(load_reward_model(folders[name]), batches=1), REVISIONS.__contains__
    )
    away.follow("stable", "rewards/support/revisions/1")
    scorer = Scorer(away, LIMITS, RewardMetrics(registry))
    running = asyncio.create_task(scorer.run())
    with pytest.raises(EngineUnavailable, match="lunch") as raised:
        await scorer.score(pairs(2))
    assert raised.value.retry_after_s == 3.0
    assert len((await scorer.score(pairs(2))).raw) == 2
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


class Gated(Away):
    """A model that scores its first batch at once and the others when `gate` opens."""

    def __init__(self, loaded: LoadedRewardModel) -> None:
        super().__init__(loaded, batches=0)
        self.gate = threading.Event()
        self._has_begun = False

    def raw_scores(self, inputs: Sequence[Sequence[int]]) -> list[float]:
        if self._has_begun:
            assert self.gate.wait(10)
        self._has_begun = True
        return super().raw_scores(inputs)


async def test_whose_batch_is_scored_does_not_wait_for_the_round(
    registry: CollectorRegistry, folders: dict[str, Path]
) -> None:
    gated = Gated(load_reward_model(folders["rewards/support/revisions/1"]))
    held: LoadedRevisions[ScoringModel] = LoadedRevisions("rewards/support", lambda _: gated, REVISIONS.__contains__)
    held.follow("stable", "rewards/support/revisions/1")
    scorer = Scorer(held, LIMITS, RewardMetrics(registry))
    running = asyncio.create_task(scorer.run())
    scorer.pause("so that both are of one round")
    longer = asyncio.create_task(scorer.score([(Prompt.user("order " * 9), "kettle " * 9)] * 2))
    shorter = asyncio.create_task(scorer.score([(Prompt.user("Hi"), "Yo")] * 5))
    await eventually(lambda: len(scorer._jobs) == 2)
    scorer.resume()
    assert len((await longer).raw) == 2
    assert not shorter.done()
    assert scorer.running_pairs == 5
    gated.gate.set()
    assert len((await shorter).raw) == 5
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_a_failing_model_ends_it(registry: CollectorRegistry, folders: dict[str, Path]) -> None:
    revisions = LoadedRevisions(
        "rewards/support", lambda name: load_reward_model(folders[name]), REVISIONS.__contains__
    )
    revisions.follow("stable", "rewards/support/revisions/1")
    revisions.get().model.model.head = torch.nn.Linear(7, 1)
    scorer = Scorer(revisions, LIMITS, RewardMetrics(registry))
    running = asyncio.create_task(scorer.run())
    with pytest.raises(ServerUnavailable):
        await scorer.score(pairs(2))
    with pytest.raises(RuntimeError):
        await running
