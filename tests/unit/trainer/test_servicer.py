"""TrainerService over a registry and, once training has begun, a loop."""

import asyncio

import grpc
import pytest
from attune.api.trainer.v1 import trainer_pb2, trainer_pb2_grpc
from attune.domain.errors import InvalidInput, NoRevision
from attune.platform.deadline import remaining_s
from attune.platform.registry.registry import Registry
from attune.platform.rpc.interceptors import RpcMetrics
from attune.platform.rpc.server import RpcServer
from attune.trainer.servicer import PHASES, TrainerServicer
from prometheus_client import CollectorRegistry
from support.training import POLICY, REWARD, InProcessServers, open_loop, publish_first, settings


@pytest.fixture
def registry(tmp_path):
    registry = Registry(tmp_path / "registry")
    publish_first(registry, tmp_path / "first")
    return registry


@pytest.fixture
async def running(tmp_path, registry):
    servers = InProcessServers(registry, tmp_path / "fetched")
    servicer = TrainerServicer(registry, POLICY, REWARD)
    stop = asyncio.Event()
    servicer.loop = open_loop(settings(tmp_path), servers, stop)
    task = asyncio.ensure_future(servicer.loop.run())
    yield servicer
    stop.set()
    await task


async def test_before_training_it_says_what_it_waits_for(registry):
    servicer = TrainerServicer(registry, POLICY, REWARD)
    status = await servicer.GetStatus(trainer_pb2.GetStatusRequest(), None)
    assert status.phase == trainer_pb2.PHASE_WAITING_FOR_REVISION
    servicer.waits("rewards/tiny has no revision")
    status = await servicer.GetStatus(trainer_pb2.GetStatusRequest(), None)
    assert status.reason == "rewards/tiny has no revision"
    with pytest.raises(NoRevision, match="has not begun: rewards/tiny has no revision"):
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
    servicer = TrainerServicer(registry, POLICY, REWARD)
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
    servicer = TrainerServicer(registry, POLICY, REWARD)
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


async def test_a_reward_revision_is_promoted_by_its_full_name(running, registry, tmp_path):
    epoch = running.loop.workspace.epoch
    registry.publish(REWARD.revision(2), tmp_path / "first" / "tiny-gate", epoch=epoch)
    promoted = await running.Promote(
        trainer_pb2.PromoteRequest(revision="rewards/tiny/revisions/2", actor="ana", reason="trained on more"), None
    )
    assert (promoted.move.revision, promoted.move.previous_revision) == (
        "rewards/tiny/revisions/2", "rewards/tiny/revisions/1",
    )  # fmt: skip
    assert running.loop.workspace.progress.facts["reward"] == 2
    assert registry.alias(POLICY, "stable").number == 1


class NotingServers(InProcessServers):
    """Notes the seconds that a preload was given."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.left_s: list[float] = []

    async def load_policy(self, revision: str, epoch: int) -> None:
        self.left_s.append(remaining_s(1e9))
        await super().load_policy(revision, epoch)


async def test_the_deadline_of_a_call_is_passed_on_to_the_calls_made_for_it(tmp_path, registry):
    servers, stop = NotingServers(registry, tmp_path / "fetched"), asyncio.Event()
    servicer = TrainerServicer(registry, POLICY, REWARD)
    servicer.loop = open_loop(settings(tmp_path), servers, stop)
    server = RpcServer(
        {"trainer": lambda s: trainer_pb2_grpc.add_TrainerServiceServicer_to_server(servicer, s)},
        host="127.0.0.1", port=0, metrics=RpcMetrics(CollectorRegistry()),
    )  # fmt: skip
    await server.start()
    task = asyncio.ensure_future(servicer.loop.run())
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = trainer_pb2_grpc.TrainerServiceStub(channel)
        await stub.Promote(trainer_pb2.PromoteRequest(revision="1", actor="ana"), timeout=20)
    stop.set()
    await task
    await server.stop(0)
    assert servers.left_s
    assert all(0 < left_s <= 20.1 for left_s in servers.left_s)  # gRPC rounds up


@pytest.mark.parametrize("revision", ["rewards/tiny-gate/revisions/1", "policies/other/revisions/1"])
async def test_only_its_own_models_are_moved(running, revision):
    with pytest.raises(InvalidInput, match="this trainer moves policies/tiny and rewards/tiny"):
        await running.Promote(trainer_pb2.PromoteRequest(revision=revision), None)


async def test_pause_and_resume(running):
    await running.Pause(trainer_pb2.PauseRequest(reason="lunch"), None)
    assert running.loop._pause_reason == "lunch"
    await running.Resume(trainer_pb2.ResumeRequest(), None)
    assert running.loop._pause_reason is None
