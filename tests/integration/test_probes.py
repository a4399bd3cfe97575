"""Every service answers probes on its health port from its start on: it lives, and is ready if it can serve."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path

import grpc
import pytest
from attune.cli.service import KNOWN_SERVICES
from attune.platform.config import listing, load_settings
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.processes import free_port

SERVICES = {
    "policy": ("attune.policy", "PolicySettings"),
    "reward": ("attune.reward", "RewardSettings"),
    "ingest": ("attune.feedback.ingest", "IngestSettings"),
    "join": ("attune.feedback.join", "JoinSettings"),
    "trainer": ("attune.trainer", "TrainerSettings"),
}
READY = {"ingest", "join"}
"""The others wait for a first revision."""


async def told(channel: grpc.aio.Channel, name: str) -> str:
    answer = await health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(service=name), timeout=20, wait_for_ready=True
    )
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_answers_probes(service: str, tmp_path: Path) -> None:
    package, name = SERVICES[service]
    cls = getattr(importlib.import_module(f"{package}.config"), name)
    port = free_port()
    given = {
        "health_port": port,
        "metrics_port": 0,
        "app.port": 0,
        "control.port": 0,
        "registry": tmp_path / "registry",
        "events_folder": tmp_path / "events",
        "cache_folder": tmp_path / "cache",
        "state_folder": tmp_path / "state",
        "database": f"sqlite:///{tmp_path}/join.db",
    }
    known = {setting.key for setting in listing(cls)}
    flags = [f"{key}={value}" for key, value in given.items() if key in known]
    settings = load_settings(cls, flags, None, {}, KNOWN_SERVICES)
    stop = asyncio.Event()
    process = asyncio.create_task(importlib.import_module(f"{package}.main").main(settings, stop))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert await told(channel, "liveness") == "SERVING"
        wanted = "SERVING" if service in READY else "NOT_SERVING"
        async with asyncio.timeout(20):
            while await told(channel, "readiness") != wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        stop.set()
        await asyncio.wait_for(process, 30)
