"""The PPO step: what it pins, what it compares, what it keeps when the gate has spoken."""

import asyncio

import pytest
from attune.platform.registry.registry import Registry
from attune.trainer import policy_step
from attune.trainer.checkpoint import read_json
from support.training import POLICY, REWARD, InProcessServers, open_loop, publish_first, settings


@pytest.fixture
async def loop(tmp_path):
    registry = Registry(tmp_path / "registry")
    publish_first(registry, tmp_path / "first")
    loop = open_loop(settings(tmp_path), InProcessServers(registry, tmp_path / "fetched"), asyncio.Event())
    await loop._sync()
    return loop


async def test_rollouts_are_pinned_to_stable_and_one_reward_revision(loop):
    w = loop.workspace
    await policy_step.run(w, 1)
    task = read_json(w.state.input_of(1) / "input.json")
    assert task["policy_revision"] == str(POLICY.revision(1))
    assert task["reward_revision"] == str(REWARD.revision(1))
    assert set(w.servers.rollouts_asked[:4]) == {str(POLICY.revision(1))}
    manifest = w.registry.manifest(POLICY.revision(2))
    assert (manifest.parent, manifest.step, manifest.reward_revision) == (1, 1, str(REWARD.revision(1)))


async def test_the_gate_compares_on_held_out_prompts_only(loop):
    w = loop.workspace
    await policy_step.run(w, 1)
    verdict = read_json(w.state.input_of(1) / "verdict.json")
    assert verdict["figures"]["win_rate_comparisons"] == len(w.prompts.held_out(8))
    training = {p.hash for p in w.prompts.training()}
    assert training.isdisjoint(p.hash for p in w.prompts.held_out(1000))


async def test_completions_of_stable_are_sampled_once_a_revision(loop):
    w = loop.workspace
    await policy_step.run(w, 1)
    if w.progress.facts["policy"] == 2:
        asked = len(w.servers.rollouts_asked)
        await policy_step._stable_scores(w, w.prompts.held_out(8))
        assert len(w.servers.rollouts_asked) == asked
    assert w.servers.rollouts_asked.count(str(POLICY.revision(1))) == 4 + len(w.prompts.held_out(8))


async def test_a_saved_verdict_is_not_asked_for_again(loop):
    w = loop.workspace
    await policy_step.run(w, 1)
    saved = read_json(w.state.input_of(1) / "verdict.json")
    w.progress.facts["pending"] = {"kind": "policy", "number": 2}
    asked = len(w.servers.rollouts_asked)
    await policy_step.settle(w)
    assert len(w.servers.rollouts_asked) == asked
    assert read_json(w.state.input_of(1) / "verdict.json") == saved
