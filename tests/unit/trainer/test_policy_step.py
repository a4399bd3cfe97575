"""The PPO step: what it pins, what it compares, what it keeps when the gate has spoken."""

import asyncio

import pytest
from attune.platform.registry.registry import Registry
from attune.trainer import policy_step
from attune.trainer.checkpoint import read_json
from attune.trainer.workspace import Workspace
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


async def test_the_trainer_may_write_what_is_compared_itself(tmp_path):
    registry = Registry(tmp_path / "registry")
    publish_first(registry, tmp_path / "first")
    s = settings(tmp_path, gate={"sampler": "trainer", "prompts": 8})
    loop = open_loop(s, InProcessServers(registry, tmp_path / "fetched"), asyncio.Event())
    await loop._sync()
    w = loop.workspace
    await policy_step.run(w, 1)
    figures = read_json(w.state.input_of(1) / "verdict.json")["figures"]
    assert figures["win_rate_comparisons"] == len(w.prompts.held_out(8))
    assert figures["gate_kl"] > 0
    assert set(w.servers.rollouts_asked) == {str(POLICY.revision(1))}
    assert len(w.servers.rollouts_asked) == s.rollouts.prompts  # for PPO, none for the gate


async def test_a_saved_verdict_is_not_asked_for_again(loop):
    w = loop.workspace
    await policy_step.run(w, 1)
    saved = read_json(w.state.input_of(1) / "verdict.json")
    w.progress.facts["pending"] = {"kind": "policy", "number": 2}
    asked = len(w.servers.rollouts_asked)
    await policy_step.settle(w)
    assert len(w.servers.rollouts_asked) == asked
    assert read_json(w.state.input_of(1) / "verdict.json") == saved


async def test_without_prompts_to_ask_with_nothing_passes(loop):
    w = loop.workspace
    await policy_step._gather(w, 1)
    w.prompts.replace([])
    await policy_step.run(w, 1)
    verdict = read_json(w.state.input_of(1) / "verdict.json")
    assert not verdict["passed"]
    assert "no completions were compared" in verdict["reasons"][0]
    assert w.registry.alias(POLICY, "stable").number == 1


class Killed(BaseException):
    """Not an Exception, as no handler sees a kill."""


async def test_a_number_that_a_stage_took_meanwhile_is_left_to_it(loop, tmp_path, monkeypatch):
    w = loop.workspace
    await policy_step._gather(w, 1)
    w.registry.publish(POLICY.revision(2), tmp_path / "first" / "policy", epoch=w.epoch)

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Workspace, "save", killed)
        with pytest.raises(Killed):
            await policy_step.run(w, 1)
    assert w.registry.revisions(POLICY) == [1, 2, 3]
    again = open_loop(settings(tmp_path), w.servers, asyncio.Event())
    await again._sync()
    await policy_step.run(again.workspace, 1)
    assert w.registry.revisions(POLICY) == [1, 2, 3]
    assert (w.registry.manifest(POLICY.revision(3)).step, w.registry.manifest(POLICY.revision(2)).step) == (1, 0)
    assert w.registry.alias(POLICY, "stable").number == again.workspace.progress.facts["policy"] != 2


async def test_the_engine_and_the_learner_agree_at_any_temperature(tmp_path):
    registry = Registry(tmp_path / "registry")
    publish_first(registry, tmp_path / "first")
    s = settings(tmp_path, rollouts={"temperature": 0.6, "prompts": 4, "max_tokens": 6, "min_prompts": 4})
    loop = open_loop(s, InProcessServers(registry, tmp_path / "fetched"), asyncio.Event())
    await loop._sync()
    await policy_step.run(loop.workspace, 1)
    metrics = registry.manifest(POLICY.revision(2)).metrics
    assert metrics["engine_gap_mean_exp_abs"] == pytest.approx(1.0, abs=1e-3)
    assert (metrics["ratio_max"], metrics["approx_kl"]) == (1.0, 0.0)
