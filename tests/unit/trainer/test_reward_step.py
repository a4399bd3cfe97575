"""When a reward update is due, what it draws, and the lineage that it writes."""

import asyncio
import json

import pytest
from attune.platform.registry.registry import Registry
from attune.trainer import reward_step
from attune.trainer.checkpoint import read_json
from attune.trainer.examples import Role
from attune.trainer.gates import GateVerdict
from support.training import REWARD, InProcessServers, open_loop, publish_first, settings


@pytest.fixture
async def loop(tmp_path):
    registry = Registry(tmp_path / "registry")
    publish_first(registry, tmp_path / "first")
    servers = InProcessServers(registry, tmp_path / "fetched")
    servers.add_comparisons(400)
    loop = open_loop(settings(tmp_path), servers, asyncio.Event())
    await loop._sync()
    return loop


def test_ranges():
    assert reward_step.ranges([]) == []
    assert reward_step.ranges([1, 2, 3, 7, 9, 10]) == [[1, 3], [7, 7], [9, 10]]


async def test_due_by_number_or_by_time(loop):
    w = loop.workspace
    assert reward_step.is_due(w, 0.0)
    few = settings(w.state._root.parent, reward={"new_examples": 10_000, "interval_s": 5})
    w.settings = few
    assert reward_step.is_due(w, 0.0), "the first update waits for nothing"
    w.last_reward_update = 100.0
    assert not reward_step.is_due(w, w.last_reward_update + 4)
    assert reward_step.is_due(w, w.last_reward_update + 6)
    w.store.remove(range(1, 401))
    assert not reward_step.is_due(w, w.last_reward_update + 6)


async def test_the_two_models_learn_from_different_people_and_held_out_from_none(loop):
    w = loop.workspace
    folder = reward_step._gather(w, 1)
    task = read_json(folder / "input.json")
    drawn = {name: {s for batch in task["draws"][name]["batches"] for s in batch} for name in ("reward", "gate")}
    people = {name: {e.event.subject_id for e in w.store.get(sorted(s))} for name, s in drawn.items()}
    judges = {e.event.subject_id for e in w.store.get(task["held_out"])}
    assert people["reward"].isdisjoint(people["gate"])
    assert judges.isdisjoint(people["reward"] | people["gate"])
    assert judges
    assert drawn["reward"] == {e.sequence for e in w.store.of_role(Role.REWARD)}


async def test_lineage_names_new_examples_once(loop):
    w = loop.workspace
    await reward_step.run(w, 1)
    assert w.progress.facts["reward_cursor"] == 400
    first = json.loads(w.registry.manifest(REWARD.revision(2)).details["new_examples"])
    w.servers.add_comparisons(300)
    await loop._sync()
    await reward_step.run(w, 2)
    second = json.loads(w.registry.manifest(REWARD.revision(3)).details["new_examples"])
    spread = [set(n for a, b in ranges for n in range(a, b + 1)) for ranges in (first, second)]
    assert spread[0].isdisjoint(spread[1])
    assert min(spread[1]) > 400


async def test_texts_that_exceed_the_context_are_counted(loop):
    w = loop.workspace
    w.servers.add_comparisons(40, better="good yes " * 60)
    await loop._sync()
    await reward_step.run(w, 1)
    assert w.metrics.texts_cut._value.get() >= 20


async def test_a_rejected_revision_leaves_its_examples_new(loop, monkeypatch):
    w = loop.workspace
    monkeypatch.setattr(reward_step, "reward_gate", lambda *_: GateVerdict(False, ("worse",)))
    before = w.learners.reward.raw_scores([("hello", "good")])
    await reward_step.run(w, 1)
    assert w.progress.facts["reward_cursor"] == 0
    assert w.progress.facts["attempt_cursor"] == 400
    assert w.learners.reward.raw_scores([("hello", "good")]) == before
    assert w.registry.alias(REWARD, "stable").number == 1
    assert w.progress.pieces["gate"] == "gate-00000001"
    assert w.progress.pieces["reward"] == "reward-00000000"


async def test_a_number_that_a_stage_took_meanwhile_is_left_to_it(loop, tmp_path):
    w = loop.workspace
    reward_step._gather(w, 1)
    w.registry.publish(REWARD.revision(2), tmp_path / "first" / "tiny-gate", epoch=w.epoch)
    await reward_step.run(w, 1)
    assert w.registry.revisions(REWARD) == [1, 2, 3]
    assert w.registry.manifest(REWARD.revision(3)).step == 1
    assert w.registry.alias(REWARD, "stable").number == w.progress.facts["reward"] == 3
    assert w.outcomes.keys() == {1, 3}
