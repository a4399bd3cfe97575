"""The policy server as a process."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from pathlib import Path

import torch

from attune.api.policy.v1 import control_pb2_grpc, policy_pb2_grpc
from attune.domain.access import Scope
from attune.domain.revisions import ALIASES, ModelName
from attune.modeling.loading import device_named
from attune.modeling.revisions import publishing
from attune.platform.access.settings import Access, open_access
from attune.platform.events.log import Topic
from attune.platform.events.settings import open_event_log
from attune.platform.lifecycle import cancelled, until_stopped
from attune.platform.registry.follow import AliasFollower
from attune.platform.registry.registry import Registry
from attune.platform.rpc.interceptors import RpcMetrics
from attune.platform.rpc.server import RpcServer
from attune.platform.telemetry import new_metrics, serve_metrics, set_up_logging
from attune.policy.config import PolicySettings
from attune.policy.control import PolicyControlServicer
from attune.policy.engine import Engine
from attune.policy.metrics import PolicyMetrics
from attune.policy.recorder import Recorder
from attune.policy.revisions import policy_revisions
from attune.policy.servicer import PolicyServicer
from attune.policy.writer import Writer

log = logging.getLogger(__name__)
APP_SERVICE = "attune.api.policy.v1.PolicyService"
CONTROL_SERVICE = "attune.api.policy.v1.PolicyControlService"


async def main(settings: PolicySettings, stop: asyncio.Event) -> None:
    """Runs until `stop`; raises what ends the process."""
    set_up_logging(settings.log_level)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.set_flush_denormal(True)
    measured = new_metrics()
    metrics, rpc_metrics = PolicyMetrics(measured), RpcMetrics(measured)
    access = open_access(settings)
    async with AsyncExitStack() as stack:
        metrics_port = stack.enter_context(serve_metrics(measured, settings.metrics_host, settings.metrics_port))
        model = ModelName("policies", settings.policy)
        registry = Registry(settings.registry)
        producer = open_event_log(settings).producer(Topic.GENERATIONS)
        stack.callback(producer.close)
        recorder = stack.enter_context(
            Recorder(producer, metrics, wait_s=settings.record_wait_s, queue_generations=settings.queue_generations)
        )
        revisions = policy_revisions(
            registry,
            model,
            cache=Path(settings.cache_folder),
            metrics=metrics,
            on_live=lambda: app.set_serving(True),
            device=device_named(settings.device),
            dtype=getattr(torch, settings.dtype),
        )
        follower = AliasFollower(
            registry,
            model,
            ALIASES,
            poll_interval_s=settings.poll_interval_s,
            on_change=revisions.follow,
            on_error=metrics.count_registry_error,
        )
        engine = Engine(settings.engine.limits(), metrics)
        decoding = asyncio.create_task(engine.run())
        stack.push_async_callback(cancelled, decoding)
        writer = Writer(revisions.loaded, engine, recorder, metrics, log_texts=settings.log_texts)
        servicer = PolicyServicer(writer, settings.defaults.sampling())
        control_servicer = PolicyControlServicer(engine, revisions, follower.hint)
        app = _app_server(settings, access, servicer, rpc_metrics)
        control = _control_server(settings, access, control_servicer, rpc_metrics)
        for server, notice_s in ((app, settings.notice_s), (control, 0.0)):
            await server.start()
            stack.push_async_callback(server.stop, settings.grace_s, notice_s)
        await control.set_serving(True)
        log.info("policy: apps on %s, control on %s, metrics on port %d", app.address, control.address, metrics_port)
        await follower.look()
        if not revisions.loaded.live:
            log.warning("%s has no stable revision; publish one: %s", model, publishing(str(model)))
        # Shielded: a stop ends the following at once, but the engine only after the calls that wait for it.
        recording: asyncio.Future[None] = asyncio.wrap_future(recorder.failure)
        await until_stopped(stop, [follower.run(), asyncio.shield(decoding), asyncio.shield(recording)])


def _app_server(settings: PolicySettings, access: Access, servicer: PolicyServicer, metrics: RpcMetrics) -> RpcServer:
    return RpcServer(
        {APP_SERVICE: lambda server: policy_pb2_grpc.add_PolicyServiceServicer_to_server(servicer, server)},
        host=settings.app.host,
        port=settings.app.port,
        metrics=metrics,
        access=access,
        scope=Scope.GENERATE,
        max_deadline_s=settings.max_deadline_s,
        max_connection_age_s=settings.app.max_connection_age_s,
    )


def _control_server(
    settings: PolicySettings, access: Access, servicer: PolicyControlServicer, metrics: RpcMetrics
) -> RpcServer:
    return RpcServer(
        {CONTROL_SERVICE: lambda server: control_pb2_grpc.add_PolicyControlServiceServicer_to_server(servicer, server)},
        host=settings.control.host,
        port=settings.control.port,
        metrics=metrics,
        access=access,
        scope=Scope.CONTROL,
    )
