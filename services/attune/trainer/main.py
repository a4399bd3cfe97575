"""The trainer as a process."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import torch

from attune.api.trainer.v1 import trainer_pb2_grpc
from attune.domain.access import Scope
from attune.domain.revisions import ModelName
from attune.platform.access.settings import open_access
from attune.platform.lease import open_lease
from attune.platform.lifecycle import until_stopped
from attune.platform.registry.settings import open_registry
from attune.platform.rpc.health import probed
from attune.platform.rpc.interceptors import RpcMetrics
from attune.platform.rpc.server import RpcServer
from attune.platform.telemetry import new_metrics, serve_metrics, set_up_logging
from attune.platform.tracing import exporting
from attune.trainer.config import TrainerSettings
from attune.trainer.loop import Loop
from attune.trainer.metrics import TrainerMetrics
from attune.trainer.opening import open_workspace, wait_for_start
from attune.trainer.prompts import read_prompts
from attune.trainer.servers import GrpcServers
from attune.trainer.servicer import TrainerServicer

log = logging.getLogger(__name__)
SERVICE = "attune.api.trainer.v1.TrainerService"


async def main(settings: TrainerSettings, stop: asyncio.Event) -> None:
    """Runs until `stop`; raises what ends the process."""
    set_up_logging(settings.log_level)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.set_flush_denormal(True)
    metrics = new_metrics()
    access = open_access(settings)
    async with AsyncExitStack() as stack:
        port = stack.enter_context(serve_metrics(metrics, settings.metrics_host, settings.metrics_port))
        stack.enter_context(exporting(settings.tracing, "trainer", metrics))
        probes = await stack.enter_async_context(probed(settings.health_host, settings.health_port))
        registry = open_registry(settings)
        servers = GrpcServers(
            **settings.addresses.model_dump(),
            app_access=settings.calls.app(),
            control_access=settings.calls.control(),
        )
        stack.push_async_callback(servers.close)
        policy = ModelName("policies", settings.policy)
        reward = ModelName("rewards", settings.reward_model)
        own_metrics = TrainerMetrics(metrics)
        servicer = TrainerServicer(registry, policy, reward)
        lease = open_lease(settings.lease)
        server = RpcServer(
            {SERVICE: lambda s: trainer_pb2_grpc.add_TrainerServiceServicer_to_server(servicer, s)},
            host=settings.control.host,
            port=settings.control.port,
            metrics=RpcMetrics(metrics),
            access=access,
            scope=Scope.CONTROL,
            probes=probes,
        )
        await server.start()
        stack.push_async_callback(server.stop, settings.drain_s)
        log.info("trainer: control on %s, metrics on port %d", server.address, port)
        start = await wait_for_start(settings, registry, own_metrics, stop, servicer.waits)
        if start is None or (lease and not await lease.acquired(stop, servicer.waits)):
            return
        # Held before the epoch is taken: who waits takes none, and overtakes nobody who leads.
        keeping = [await stack.enter_async_context(lease.kept())] if lease else []
        epoch = await asyncio.to_thread(registry.take_epoch, [policy, reward], f"trainer on {socket.gethostname()}")
        fixed = read_prompts(Path(settings.rollouts.prompts_file)) if settings.rollouts.prompts_file else []
        workspace = await asyncio.to_thread(
            open_workspace, settings, registry, servers, own_metrics, start, epoch, fixed
        )
        loop = Loop(workspace, stop)
        servicer.loop = loop
        await server.set_serving(True)
        log.info("training from %s under epoch %d", start.policy, epoch)
        await until_stopped(stop, [loop.run(), *map(asyncio.shield, keeping)])
