"""Killed anywhere, the trainer replays saved inputs and ends with the same weights, bit for bit."""

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from attune.platform.registry.registry import Registry
from attune.trainer.checkpoint import StateFolder
from attune.trainer.workspace import Workspace
from safetensors.torch import load_file
from support.eventually import eventually
from support.training import POLICY, REWARD, InProcessServers, open_loop, publish_first, settings


async def run_until_idle(s, servers) -> Workspace:
    stop = asyncio.Event()
    loop = open_loop(s, servers, stop)
    task = asyncio.ensure_future(loop.run())
    await eventually(lambda: task.done() or (loop.workspace.phase == "idle" and loop.reason), timeout_s=60)
    stop.set()
    await task
    return loop.workspace


def end_weights(w: Workspace) -> dict[str, torch.Tensor]:
    found = {}
    for name, piece in w.progress.pieces.items():
        for file in sorted(w.state.piece(piece).glob("*.safetensors")):
            found |= {f"{name}/{file.name}/{key}": value for key, value in load_file(file).items()}
    return found


@pytest.fixture
def servers(tmp_path):
    registry = Registry(tmp_path / "registry")
    publish_first(registry, tmp_path / "first")
    servers = InProcessServers(registry, tmp_path / "fetched")
    servers.add_comparisons(400)
    return servers


def copied(tmp_path: Path, name: str, servers: InProcessServers) -> InProcessServers:
    """The registry as it was before training, and the same join."""
    shutil.copytree(tmp_path / "untouched", tmp_path / name)
    other = InProcessServers(Registry(tmp_path / name), tmp_path / f"{name}-fetched")
    other.examples = servers.examples
    return other


class Killed(BaseException):
    """Not an Exception, as no handler sees a kill."""


# Every point between two writes of a step where a kill may fall.
POINTS = ["write_input", "publish_policy", "publish_reward", "save", "_point_stable_at", "_record"]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_at_any_point_it_ends_with_the_same_weights(tmp_path, servers, monkeypatch, point, when):
    shutil.copytree(tmp_path / "registry", tmp_path / "untouched")
    s = settings(tmp_path, keep_inputs=100)
    whole = await run_until_idle(s, servers)
    assert whole.progress.step == 3

    others = copied(tmp_path, "other", servers)
    state = tmp_path / "other-state"
    shutil.copytree(tmp_path / "state" / "inputs", state / "inputs")
    again = settings(tmp_path, state_folder=str(state), keep_inputs=100, only_saved_inputs=True)
    owner = StateFolder if point == "write_input" else Workspace
    ordinary, calls = getattr(owner, point), [0]

    def killing(self, *arguments, **named):
        calls[0] += 1
        if when == "before" and calls[0] % 2 == 1:
            raise Killed
        result = ordinary(self, *arguments, **named)
        if when == "after" and calls[0] % 2 == 1 and not asyncio.iscoroutine(result):
            raise Killed
        return result

    monkeypatch.setattr(owner, point, killing)
    for _ in range(12):
        with suppress(Killed):
            end = await run_until_idle(again, others)
            if end.progress.step == whole.progress.step and end.progress.settled:
                break
    assert calls[0] or point == "write_input"
    assert end.progress.step == 3
    expected, found = end_weights(whole), end_weights(end)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    for model in (POLICY, REWARD):
        assert others.registry.revisions(model) == servers.registry.revisions(model)
        assert others.registry.alias(model, "stable").number == servers.registry.alias(model, "stable").number
        for number in servers.registry.revisions(model):
            name = model.revision(number)
            assert others.registry.manifest(name).files == servers.registry.manifest(name).files


async def test_without_kills_two_runs_from_one_input_are_equal(tmp_path, servers):
    shutil.copytree(tmp_path / "registry", tmp_path / "untouched")
    first = await run_until_idle(settings(tmp_path, keep_inputs=100), servers)
    others = copied(tmp_path, "other", servers)
    shutil.copytree(tmp_path / "state" / "inputs", tmp_path / "other-state" / "inputs")
    second = await run_until_idle(
        settings(tmp_path, state_folder=str(tmp_path / "other-state"), keep_inputs=100, only_saved_inputs=True), others
    )
    a, b = end_weights(first), end_weights(second)
    assert all(torch.equal(a[key], b[key]) for key in a)


async def test_a_moved_alias_is_adopted_at_the_next_start(tmp_path, servers):
    s = settings(tmp_path)
    w = await run_until_idle(s, servers)
    assert w.progress.facts["policy"] > 1
    epoch = servers.registry.take_epoch([POLICY], "a person")
    servers.registry.move_alias(POLICY, "stable", 1, epoch=epoch, actor="ana", reason="by hand")
    again = open_loop(s, servers, asyncio.Event())
    assert again.workspace.progress.facts["policy"] == 1
    actor = dict(again.workspace.learners.policy.actor.named_parameters())
    reference = dict(again.workspace.learners.policy.reference.named_parameters())
    assert all(torch.equal(actor[key], reference[key]) for key in actor)


async def test_old_weights_go_and_what_is_needed_stays(tmp_path, servers, monkeypatch):
    monkeypatch.setattr("attune.trainer.workspace.PRUNE_EVERY", 1)
    s = settings(tmp_path, keep_revisions=2, max_ppo_steps_per_reward=6)
    w = await run_until_idle(s, servers)
    numbers = servers.registry.revisions(POLICY)
    pruned = [n for n in numbers if servers.registry.is_pruned(POLICY.revision(n))]
    assert len(numbers) >= 6
    assert pruned
    needed = {w.progress.facts["policy"], w.progress.facts["reference"], *numbers[-2:]}
    assert not needed & set(pruned)
    assert all(servers.registry.manifest(POLICY.revision(n)).files for n in numbers)
