"""The trainer whole: waits without revisions and says what is missing, trains once they are there, ends on a stop."""

from __future__ import annotations

import asyncio
import urllib.request
from pathlib import Path

import grpc
import pytest
from attune.api.policy.v1 import policy_pb2, policy_pb2_grpc
from attune.api.trainer.v1 import trainer_pb2
from attune.client import NO_RETRY
from attune.client.control import AsyncTrainerClient
from attune.domain.errors import NoRevision, ServerUnavailable
from attune.platform.registry.registry import Registry
from attune.trainer.main import main
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from support.leases import ApiServer, api_server
from support.processes import free_port
from support.training import POLICY, publish_first, settings


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attune.trainer.main.set_up_logging", lambda level: None)


async def until(trainer: AsyncTrainerClient, phrase: str) -> trainer_pb2.GetStatusResponse:
    """The status once its reason holds the phrase."""
    async with asyncio.timeout(60):
        while phrase not in (status := await trainer.status()).reason:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return status


async def test_from_an_empty_registry_to_training_and_a_stop(tmp_path: Path) -> None:
    port, metrics_port = free_port(), free_port()
    away = dict.fromkeys(("policy", "policy_control", "reward", "reward_control", "join_control"), "127.0.0.1:1")
    s = settings(tmp_path, control={"port": port}, metrics_port=metrics_port, addresses=away)
    stop = asyncio.Event()
    process = asyncio.create_task(main(s, stop))
    async with AsyncTrainerClient(f"127.0.0.1:{port}", NO_RETRY) as trainer:
        with pytest.raises(ServerUnavailable, match="NOT_SERVING"):
            await trainer.wait_until_serving(1.0)
        status = await until(trainer, "attune sft --publish policies/tiny")
        assert status.phase == trainer_pb2.PHASE_WAITING_FOR_REVISION
        with pytest.raises(NoRevision):
            await trainer.pause("a look")
        registry = Registry(s.registry)
        publish_first(registry, tmp_path / "first")
        await trainer.wait_until_serving(30)
        status = await until(trainer, "waits for a service")  # no service may depend on another being up
        assert status.policy_revision == str(POLICY.revision(1))
        assert status.epoch == registry.newest_epoch(POLICY)
        page = await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{metrics_port}/metrics")
        assert f"attune_training_epoch {float(status.epoch)}" in page.read().decode()
        page.close()
        stop.set()
        await asyncio.wait_for(process, 30)
        with pytest.raises(ServerUnavailable):
            await trainer.status()


async def test_its_one_port_is_for_control_alone(tmp_path: Path) -> None:
    port, stop = free_port(), asyncio.Event()
    process = asyncio.create_task(main(settings(tmp_path, control={"port": port}, metrics_port=0), stop))
    async with AsyncTrainerClient(f"127.0.0.1:{port}", NO_RETRY) as trainer:
        await until(trainer, "has no revision")
        stub = reflection_pb2_grpc.ServerReflectionStub(trainer.channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        async for response in stub.ServerReflectionInfo(iter([asked]), timeout=10):
            names = {service.name for service in response.list_services_response.service}
            break
        app = policy_pb2_grpc.PolicyServiceStub(trainer.channel)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await app.Generate(policy_pb2.GenerateRequest(), timeout=10)
    stop.set()
    await asyncio.wait_for(process, 30)
    assert "attune.api.trainer.v1.TrainerService" in names
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_trainer_takes_no_epoch_before_it_has_its_lease(tmp_path: Path) -> None:
    port = free_port()
    away = dict.fromkeys(("policy", "policy_control", "reward", "reward_control", "join_control"), "127.0.0.1:1")
    with api_server(tmp_path) as lease:
        ApiServer.lease["spec"] = {"holderIdentity": "another", "leaseTransitions": 3}
        given = lease.model_dump() | {"duration_s": 20.0}
        s = settings(tmp_path, control={"port": port}, metrics_port=0, addresses=away, lease=given)
        registry = Registry(s.registry)
        publish_first(registry, tmp_path / "first")
        stop = asyncio.Event()
        process = asyncio.create_task(main(s, stop))
        async with AsyncTrainerClient(f"127.0.0.1:{port}", NO_RETRY) as trainer:
            await until(trainer, "waits for the lease of another")
            epoch = registry.newest_epoch(POLICY)
            ApiServer.lease["spec"]["holderIdentity"] = ""
            await trainer.wait_until_serving(60)
            assert registry.newest_epoch(POLICY) > epoch
        held = ApiServer.lease["spec"]
        assert held["holderIdentity"]
        stop.set()
        await asyncio.wait_for(process, 60)
        assert not ApiServer.lease["spec"].get("holderIdentity")
