"""The loop on tiny real models: it learns, promotes, idles, goes on after kills, and obeys people."""

import asyncio
import random
from contextlib import suppress

import pytest
from attune.domain.errors import EpochSuperseded, InvalidInput, ServerUnavailable, TrainingStopped
from attune.platform.registry.registry import Registry
from attune.trainer import policy_step
from attune.trainer.policy_learner import PolicyLearner
from support.eventually import eventually
from support.training import POLICY, REWARD, InProcessServers, open_loop, publish_first, settings


@pytest.fixture
def servers(tmp_path):
    registry = Registry(tmp_path / "registry")
    publish_first(registry, tmp_path / "first")
    servers = InProcessServers(registry, tmp_path / "fetched")
    servers.add_comparisons(400)
    return servers


class Running:
    """A loop as a task, stopped at the end of the block; its failure is raised there."""

    def __init__(self, s, servers):
        self.stop = asyncio.Event()
        self.loop = open_loop(s, servers, self.stop)

    async def __aenter__(self):
        self.task = asyncio.ensure_future(self.loop.run())
        return self

    async def __aexit__(self, kind, *_):
        self.stop.set()
        if kind is not None:
            self.task.cancel()
            with suppress(asyncio.CancelledError):
                await self.task
        else:
            await self.task

    @property
    def facts(self):
        return self.loop.workspace.progress.facts


async def test_learns_promotes_and_then_idles(tmp_path, servers):
    async with Running(settings(tmp_path), servers) as running:
        w = running.loop.workspace
        await eventually(lambda: w.phase == "idle" and running.facts["ppo_steps"] == 2, timeout_s=60)
        assert "waits for new feedback" in running.loop.reason
        assert running.facts["reward"] == 2
        assert servers.registry.alias(REWARD, "stable").number == 2
        assert w.figures["reward_accuracy"] > 0.9
        manifest = servers.registry.manifest(REWARD.revision(2))
        assert manifest.details["new_examples"].startswith("[[")
        assert manifest.parent == 1
        assert manifest.example_sequence == 400
        first = servers.registry.manifest(POLICY.revision(2))
        assert first.reward_revision == str(REWARD.revision(2))
        assert first.metrics["ratio_max"] == 1.0
        assert first.metrics["approx_kl"] == 0.0
        assert first.metrics["engine_gap_mean_exp_abs"] == pytest.approx(1.0, abs=1e-3)
        stable = servers.registry.alias(POLICY, "stable").number
        assert running.facts["policy"] == stable
        assert servers.loaded[-1].startswith(str(POLICY))
        assert servers.loaded.count(str(REWARD.revision(2))) >= 2  # asked again when live: the server looks at once
        assert servers.registry.revisions(POLICY) == [1, 2, 3]


async def test_a_reward_revision_is_followed_before_it_is_replaced(tmp_path, servers):
    always_due = {"new_examples": 1, "interval_s": 1e-6, "steps": 4, "gate_steps": 4, "batch_size": 16, "lr": 3e-3}
    async with Running(settings(tmp_path, reward=always_due), servers) as running:

        def is_replaced_twice() -> bool:
            servers.add_comparisons(8)  # so that the next update is always due
            return running.facts["reward"] >= 4

        await eventually(is_replaced_twice, timeout_s=60)
    registry = servers.registry
    followed = {registry.manifest(POLICY.revision(n)).reward_revision for n in registry.revisions(POLICY)[1:]}
    assert {str(REWARD.revision(n)) for n in (2, 3)} <= followed


async def test_without_examples_nothing_is_learned(tmp_path, servers):
    servers.examples.clear()
    async with Running(settings(tmp_path), servers) as running:
        await eventually(lambda: "better than chance" in running.loop.reason, timeout_s=20)
        assert servers.registry.revisions(REWARD) == [1]
        assert servers.registry.revisions(POLICY) == [1]


async def test_shuffled_feedback_promotes_no_reward_revision(tmp_path, servers):
    servers.examples.clear()
    coin = random.Random(0)  # not the parity of the prompt's number, which a model can learn
    for _ in range(400):
        servers.add_comparisons(1, *coin.sample(["good yes", "bad no"], 2))
    async with Running(settings(tmp_path), servers) as running:
        await eventually(lambda: running.loop.workspace.progress.step >= 1, timeout_s=60)
        await eventually(lambda: running.loop.workspace.phase == "idle", timeout_s=60)
    assert servers.registry.alias(REWARD, "stable").number == 1
    assert servers.registry.revisions(POLICY) == [1]


async def test_removed_examples_are_not_learned_from(tmp_path, servers):
    servers.removed = list(range(1, 401))
    async with Running(settings(tmp_path), servers) as running:
        await eventually(lambda: running.loop.workspace.store.last_removal == 400, timeout_s=20)
        assert len(running.loop.workspace.store) == 0


async def test_waits_out_servers_that_are_down(tmp_path, servers):
    async with Running(settings(tmp_path), servers) as running:
        servers.is_down = True
        await eventually(lambda: "waits for a service" in running.loop.reason, timeout_s=20)
        failed = running.loop.workspace.metrics.calls_failed.labels("policy")._value.get()
        assert failed >= 1
        servers.is_down = False
        await eventually(lambda: running.facts["ppo_steps"] == 2, timeout_s=60)


async def test_a_rejected_policy_restores_weights_optimizer_and_kl(tmp_path, servers):
    s = settings(tmp_path, gate={"prompts": 8, "kl_ceiling": 1e-9})
    async with Running(s, servers) as running:
        w = running.loop.workspace
        await eventually(lambda: w.phase == "stopped", timeout_s=60)
        assert "KL exceeded its ceiling" in running.loop.workspace.stop_reason
        assert w.learners.policy.updates == 0
        assert servers.registry.alias(POLICY, "stable").number == 1
        assert w.progress.pieces["policy"] == w.progress.fallback["policy"]
        running.loop.resume()
        await eventually(lambda: w.phase != "stopped", timeout_s=20)


async def test_a_number_that_is_not_finite_stops_training_and_forgets_the_step(tmp_path, servers, monkeypatch):
    def poisoned(self, *_: object) -> None:
        raise TrainingStopped("not finite in the PPO update: policy_loss")

    monkeypatch.setattr(PolicyLearner, "update", poisoned)
    async with Running(settings(tmp_path), servers) as running:
        w = running.loop.workspace
        await eventually(lambda: w.phase == "stopped" and w.progress.step == 2, timeout_s=60)
        assert "not finite" in w.stop_reason
        assert w.state.input_of(3) is None
        assert servers.registry.revisions(POLICY) == [1]
        assert w.progress.pieces == w.progress.fallback


async def test_a_restart_does_not_lift_a_stop_but_a_person_does(tmp_path, servers):
    s = settings(tmp_path, gate={"prompts": 8, "kl_ceiling": 1e-9})
    async with Running(s, servers) as running:
        await eventually(lambda: running.loop.workspace.phase == "stopped", timeout_s=60)
    s = settings(tmp_path, gate={"prompts": 8, "kl_ceiling": 50.0})  # so that nothing stops it again
    async with Running(s, servers) as running:
        w = running.loop.workspace
        await eventually(lambda: w.phase == "stopped", timeout_s=20)
        assert "KL exceeded its ceiling" in running.loop.reason
        running.loop.resume()
        await eventually(lambda: w.phase not in ("stopped", "paused"), timeout_s=20)
    assert open_loop(s, servers, asyncio.Event()).workspace.stop_reason == ""


class Killed(BaseException):
    """Not an Exception, as no handler sees a kill."""


async def test_killed_at_the_gate_it_goes_on_from_there(tmp_path, servers, monkeypatch):
    """A new process has read neither examples nor prompts yet; the gate needs the latter."""

    async def killed(*_: object) -> None:
        raise Killed

    s = settings(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(policy_step, "_judge", killed)
        with pytest.raises(Killed):
            await open_loop(s, servers, asyncio.Event()).run()
    assert servers.registry.revisions(POLICY) == [1, 2]
    async with Running(s, servers) as running:
        assert not running.loop.workspace.progress.settled
        await eventually(lambda: running.facts["ppo_steps"] == 2 and running.loop.workspace.phase == "idle", 60)
    assert servers.registry.revisions(POLICY) == [1, 2, 3]
    assert running.loop.workspace.figures["win_rate_comparisons"] == 8


async def test_a_person_promotes_and_rolls_back(tmp_path, servers):
    async with Running(settings(tmp_path), servers) as running:
        await eventually(lambda: running.facts["ppo_steps"] == 2, timeout_s=60)
        await eventually(lambda: running.loop.workspace.phase == "idle", timeout_s=60)
        move = await running.loop.promote(POLICY.revision(1), "ana", "the old one was better")
        assert (move.number, move.actor) == (1, "ana")
        assert running.facts["policy"] == 1
        back = await running.loop.roll_back("policies", "ana", "")
        assert back.number == move.previous
        assert servers.registry.alias(POLICY, "stable").number == back.number


async def test_what_nobody_waits_for_any_more_is_not_done(tmp_path, servers):
    epoch = servers.registry.newest_epoch(POLICY)
    servers.registry.publish(POLICY.revision(2), tmp_path / "first" / "policy", epoch=epoch)
    async with Running(settings(tmp_path, reward={"new_examples": 10_000}), servers) as running:
        asked = asyncio.ensure_future(running.loop.promote(POLICY.revision(2), "ana", "too late"))
        await asyncio.sleep(0)
        asked.cancel()
        await running.loop.promote(POLICY.revision(1), "ana", "in time")
    reasons = {move.reason for move in servers.registry.history(POLICY, "stable")}
    assert "too late" not in reasons
    assert "in time" in reasons


async def test_a_step_whose_gate_has_not_spoken_gives_way_to_a_person(tmp_path, servers, monkeypatch):
    async def silent(*_: object) -> None:
        raise ServerUnavailable("the gate cannot ask", metadata={"server": "policy"})

    monkeypatch.setattr(policy_step, "_judge", silent)
    async with Running(settings(tmp_path), servers) as running:
        w = running.loop.workspace
        await eventually(lambda: not w.progress.settled and "waits for a service" in running.loop.reason, 60)
        before = w.learners.policy.updates
        await running.loop.promote(POLICY.revision(1), "ana", "as it was")
        assert running.facts["policy"] == 1
        assert (before, w.learners.policy.updates) == (1, 0)
        assert "pending" not in running.facts


async def test_rollback_without_a_revision_before_is_refused(tmp_path, servers):
    servers.examples.clear()
    async with Running(settings(tmp_path), servers) as running:
        with pytest.raises(InvalidInput, match="no revision before"):
            await running.loop.roll_back("policies", "ana", "")


async def test_pause_holds_and_resume_goes_on(tmp_path, servers):
    async with Running(settings(tmp_path), servers) as running:
        running.loop.pause("maintenance")
        await eventually(lambda: running.loop.workspace.phase == "paused", timeout_s=60)
        steps = running.loop.workspace.progress.step
        assert running.loop.reason == "maintenance"
        running.loop.resume()
        await eventually(lambda: running.loop.workspace.progress.step > steps, timeout_s=60)


async def test_a_deposed_trainer_cannot_move_an_alias(tmp_path, servers, monkeypatch):
    """The leader is held in the middle of a publication; another takes over; the first wakes and fails."""
    s = settings(tmp_path)
    held, go_on = asyncio.Event(), asyncio.Event()
    ordinary = policy_step._judge

    async def judge_slowly(w, number):
        verdict = await ordinary(w, number)
        held.set()
        await go_on.wait()
        return verdict

    monkeypatch.setattr(policy_step, "_judge", judge_slowly)
    stop = asyncio.Event()
    deposed = open_loop(s, servers, stop, "first")
    task = asyncio.ensure_future(deposed.run())
    await asyncio.wait_for(held.wait(), 60)
    servers.registry.take_epoch([POLICY, REWARD], "second")
    go_on.set()
    with pytest.raises(EpochSuperseded):
        await asyncio.wait_for(task, 60)
    assert servers.registry.alias(POLICY, "stable").number == 1
    assert servers.registry.alias(POLICY, "stable").epoch > deposed.workspace.epoch
