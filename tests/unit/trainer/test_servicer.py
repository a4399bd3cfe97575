"""TrainerService over a registry and, once training has begun, a loop."""

import asyncio

import pytest
from attune.api.trainer.v1 import trainer_pb2
from attune.domain.errors import InvalidInput, NoRevision
from attune.platform.registry.registry import Registry
from attune.trainer.servicer import PHASES, TrainerServicer
from support.training import POLICY, InProcessServers, open_loop, publish_first, settings


@pytest.fixture
def registry(tmp_path):
    registry = Registry(tmp_path / "registry")
    publish_first(registry, tmp_path / "first")
    return registry


@pytest.fixture
async def running(tmp_path, registry):
    servers = InProcessServers(registry, tmp_path / "fetched")
    servicer = TrainerServicer(registry, POLICY)
    stop = asyncio.Event()
    servicer.loop = open_loop(settings(tmp_path), servers, stop)
    task = asyncio.ensure_future(servicer.loop.run())
    yield servicer
    stop.set()
    await task


async def test_before_training_it_says_what_it_waits_for(registry):
    servicer = TrainerServicer(registry, POLICY)
    status = await servicer.GetStatus(trainer_pb2.GetStatusRequest(), None)
    assert status.phase == trainer_pb2.PHASE_WAITING_FOR_REVISION
    with pytest.raises(NoRevision, match="has not begun"):
        await servicer.Pause(trainer_pb2.PauseRequest(), None)


async def test_status_names_revisions_and_reason(running):
    status = await running.GetStatus(trainer_pb2.GetStatusRequest(), None)
    assert status.policy_revision == "policies/tiny/revisions/1"
    assert status.reward_revision == "rewards/tiny/revisions/1"
    assert status.epoch == running.loop.workspace.epoch


async def test_every_phase_of_the_loop_has_a_wire_form():
    assert sorted(PHASES.values()) == sorted(set(trainer_pb2.Phase.values()) - {0})


async def test_list_revisions_in_pages(registry, tmp_path):
    epoch = registry.newest_epoch(POLICY)
    for number in (2, 3):
        registry.publish(POLICY.revision(number), tmp_path / "first" / "policy", epoch=epoch, parent=number - 1)
    servicer = TrainerServicer(registry, POLICY)
    first = await servicer.ListRevisions(trainer_pb2.ListRevisionsRequest(page_size=2), None)
    assert [r.name[-1] for r in first.revisions] == ["3", "2"]
    assert first.revisions[0].parent == "policies/tiny/revisions/2"
    assert list(first.revisions[0].aliases) == ["latest"]
    rest = await servicer.ListRevisions(
        trainer_pb2.ListRevisionsRequest(page_size=2, page_token=first.next_page_token), None
    )
    assert [r.name[-1] for r in rest.revisions] == ["1"]
    assert rest.next_page_token == ""


@pytest.mark.parametrize("request_", [{"page_size": 5000}, {"page_token": "x"}, {"model": "cats/tom"}])
async def test_bad_list_requests_name_the_field(registry, request_):
    servicer = TrainerServicer(registry, POLICY)
    with pytest.raises(InvalidInput):
        await servicer.ListRevisions(trainer_pb2.ListRevisionsRequest(**request_), None)


async def test_promote_watch_and_rollback(running, registry, tmp_path):
    epoch = running.loop.workspace.epoch
    registry.publish(POLICY.revision(2), tmp_path / "first" / "policy", epoch=epoch)
    watch = running.Watch(trainer_pb2.WatchRequest(), None)
    seen = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    promoted = await running.Promote(trainer_pb2.PromoteRequest(revision="2", actor="ana"), None)
    assert promoted.move.revision == "policies/tiny/revisions/2"
    assert (await seen).event == trainer_pb2.TRAINER_EVENT_ALIAS_MOVED
    back = await running.Rollback(trainer_pb2.RollbackRequest(actor="ana"), None)
    assert back.move.revision == "policies/tiny/revisions/1"
    assert back.move.previous_revision == "policies/tiny/revisions/2"
    with pytest.raises(InvalidInput, match="this trainer moves"):
        await running.Rollback(trainer_pb2.RollbackRequest(model="policies/other"), None)
    await watch.aclose()


async def test_pause_and_resume(running):
    await running.Pause(trainer_pb2.PauseRequest(reason="lunch"), None)
    assert running.loop._pause_reason == "lunch"
    await running.Resume(trainer_pb2.ResumeRequest(), None)
    assert running.loop._pause_reason is None
