"""What the trainer starts from, and what it says while something is missing."""

import asyncio

import pytest
from attune.domain.errors import NoRevision
from attune.platform.registry.registry import Registry
from attune.trainer.metrics import TrainerMetrics
from attune.trainer.opening import find_start, wait_for_start
from prometheus_client import CollectorRegistry
from support.eventually import eventually
from support.training import POLICY, REWARD, InProcessServers, open_loop, publish_first, settings


def test_an_empty_registry_names_the_command(tmp_path):
    with pytest.raises(NoRevision, match="attune sft --publish policies/tiny"):
        find_start(settings(tmp_path), Registry(tmp_path / "registry"))


async def test_waits_until_the_first_revisions_are_there(tmp_path):
    registry, metrics = Registry(tmp_path / "registry"), TrainerMetrics(CollectorRegistry())
    said: list[str] = []
    waiting = asyncio.ensure_future(wait_for_start(settings(tmp_path), registry, metrics, asyncio.Event(), said.append))
    await eventually(lambda: metrics.phase.labels("waiting_for_revision")._value.get() == 1)
    publish_first(registry, tmp_path / "first")
    start = await asyncio.wait_for(waiting, 10)
    assert str(start.policy) == "policies/tiny/revisions/1"
    assert said[0] == "policies/tiny has no revision; publish one: attune sft --publish policies/tiny"


async def test_the_ceiling_and_the_stable_revisions_are_shown_before_the_first_step(tmp_path):
    registry = Registry(tmp_path / "registry")
    publish_first(registry, tmp_path / "first")
    shown = open_loop(settings(tmp_path), InProcessServers(registry, tmp_path / "fetched"), asyncio.Event())
    metrics = shown.workspace.metrics
    assert metrics.kl_ceiling._value.get() == 50.0
    assert [metrics.stable_number.labels(kind)._value.get() for kind in ("policy", "reward")] == [1, 1]


async def test_stop_ends_the_wait(tmp_path):
    stop = asyncio.Event()
    stop.set()
    registry, metrics = Registry(tmp_path / "registry"), TrainerMetrics(CollectorRegistry())
    assert await wait_for_start(settings(tmp_path), registry, metrics, stop, str) is None


async def test_a_reward_model_that_is_not_live_starts_learning_but_no_ppo(tmp_path):
    registry = Registry(tmp_path / "registry")
    publish_first(registry, tmp_path / "first", reward_is_live=False)
    start = find_start(settings(tmp_path), registry)
    assert not start.reward_is_live
    loop = open_loop(settings(tmp_path), InProcessServers(registry, tmp_path / "fetched"), asyncio.Event())
    assert loop.workspace.progress.facts["reward"] == 0
    assert "waits for a reward revision that is better than chance" in loop._why_no_ppo()
    assert registry.alias(REWARD, "stable") is None


async def test_a_reward_model_that_became_stable_meanwhile_is_gone_on_from(tmp_path):
    """As `attune reward-model --publish` makes it, when the first one was no better than chance."""
    registry = Registry(tmp_path / "registry")
    publish_first(registry, tmp_path / "first", reward_is_live=False)
    servers = InProcessServers(registry, tmp_path / "fetched")
    open_loop(settings(tmp_path), servers, asyncio.Event())
    epoch = registry.take_epoch([REWARD], "stage")
    registry.publish(REWARD.revision(2), tmp_path / "first" / "tiny-gate", epoch=epoch)
    registry.move_alias(REWARD, "stable", 2, epoch=epoch, actor="stage", reason="first revision")
    w = open_loop(settings(tmp_path), servers, asyncio.Event()).workspace
    facts = w.progress.facts
    assert (facts["reward"], facts["reward_parent"], facts["policy"]) == (2, 2, 1)
    assert w.learners.reward.raw_scores([("hello", "good")]) == w.learners.gate.raw_scores([("hello", "good")])
    again = open_loop(settings(tmp_path), servers, asyncio.Event()).workspace
    assert again.progress == w.progress


async def test_a_candidate_that_is_stable_already_is_not_adopted_but_settled(tmp_path):
    """A kill between the alias's move and the checkpoint."""
    registry = Registry(tmp_path / "registry")
    publish_first(registry, tmp_path / "first")
    servers = InProcessServers(registry, tmp_path / "fetched")
    w = open_loop(settings(tmp_path), servers, asyncio.Event()).workspace
    registry.publish(POLICY.revision(2), tmp_path / "first" / "policy", epoch=w.epoch)
    registry.move_alias(POLICY, "stable", 2, epoch=w.epoch, actor="trainer", reason="passed its gate")
    w.save(1, ("policy",), w.progress.facts | {"pending": {"kind": "policy", "number": 2}})
    again = open_loop(settings(tmp_path), servers, asyncio.Event()).workspace
    assert not again.progress.settled
    assert again.progress.facts["pending"]["number"] == 2
