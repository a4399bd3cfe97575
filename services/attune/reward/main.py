"""The reward server as a process."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from pathlib import Path

import torch

from attune.api.reward.v1 import control_pb2_grpc, reward_pb2_grpc
from attune.domain.access import Scope
from attune.domain.revisions import STABLE, ModelName
from attune.modeling.loading import device_named
from attune.modeling.revisions import publishing
from attune.platform.access.settings import Access, open_access
from attune.platform.inference.servicer import POOL as INFERENCE_POOL
from attune.platform.inference.servicer import SERVICE as INFERENCE_SERVICE
from attune.platform.inference.servicer import InferenceServicer
from attune.platform.lifecycle import cancelled, until_stopped
from attune.platform.registry.follow import AliasFollower
from attune.platform.registry.settings import open_registry
from attune.platform.rpc.health import Probes, probed
from attune.platform.rpc.interceptors import RpcMetrics
from attune.platform.rpc.server import RpcServer
from attune.platform.telemetry import new_metrics, serve_metrics, set_up_logging
from attune.platform.tracing import exporting
from attune.reward.config import RewardSettings
from attune.reward.control import RewardControlServicer
from attune.reward.engine import RewardEngine, TransformersEngine
from attune.reward.inference import RewardInference
from attune.reward.metrics import RewardMetrics
from attune.reward.revisions import RewardRevisions, reward_revisions
from attune.reward.scorer import Scorer
from attune.reward.servicer import RewardServicer
from attune.reward.triton_repository import TritonRepository

log = logging.getLogger(__name__)
APP_SERVICE = "attune.api.reward.v1.RewardService"
CONTROL_SERVICE = "attune.api.reward.v1.RewardControlService"


async def main(settings: RewardSettings, stop: asyncio.Event) -> None:
    """Runs until `stop`; raises what ends the process."""
    set_up_logging(settings.log_level)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    measured = new_metrics()
    metrics, rpc_metrics = RewardMetrics(measured), RpcMetrics(measured)
    access = open_access(settings)
    async with AsyncExitStack() as stack:
        metrics_port = stack.enter_context(serve_metrics(measured, settings.metrics_host, settings.metrics_port))
        stack.enter_context(exporting(settings.tracing, "reward", measured))
        probes = await stack.enter_async_context(probed(settings.health_host, settings.health_port))
        model = ModelName("rewards", settings.reward_model)
        registry = open_registry(settings)
        engine = _engine(settings)
        stack.callback(engine.close)
        revisions = reward_revisions(
            registry,
            model,
            engine,
            cache=Path(settings.cache_folder),
            metrics=metrics,
            on_live=lambda: app.set_serving(True),
        )
        follower = AliasFollower(
            registry,
            model,
            [STABLE],
            poll_interval_s=settings.poll_interval_s,
            on_change=revisions.follow,
            on_error=metrics.count_registry_error,
        )
        scorer = Scorer(revisions.loaded, settings.batch.limits(), metrics)
        scoring = asyncio.create_task(scorer.run())
        stack.push_async_callback(cancelled, scoring)
        control_servicer = RewardControlServicer(scorer, revisions, follower.hint)
        app = _app_server(settings, access, scorer, revisions, rpc_metrics, probes)
        control = _control_server(settings, access, control_servicer, rpc_metrics)
        for server, notice_s in ((app, settings.notice_s), (control, 0.0)):
            await server.start()
            stack.push_async_callback(server.stop, settings.grace_s, notice_s)
        await control.set_serving(True)
        log.info("reward: apps on %s, control on %s, metrics on port %d", app.address, control.address, metrics_port)
        await follower.look()
        if not revisions.loaded.live:
            log.warning("%s has no stable revision; publish one: %s", model, publishing(str(model)))
        # Shielded: a stop ends the following at once, but the scorer only after the calls that wait for it.
        await until_stopped(stop, [follower.run(), asyncio.shield(scoring)])


def _engine(settings: RewardSettings) -> RewardEngine:
    dtype: torch.dtype = getattr(torch, settings.dtype)
    if settings.engine == "transformers":
        return TransformersEngine(device_named(settings.device), dtype)
    from attune.reward.triton_engine import Timeouts, TritonEngine  # tritonclient comes with attune[triton] alone

    repository = TritonRepository(
        Path(settings.triton.repository),
        settings.reward_model,
        batch_pairs=settings.batch.pairs,
        dtype=settings.dtype,
        threads=settings.threads,
    )
    timeouts = Timeouts(settings.triton.timeout_s, settings.triton.load_timeout_s)
    return TritonEngine(settings.triton.url, settings.reward_model, repository, dtype, timeouts)


def _app_server(
    settings: RewardSettings,
    access: Access,
    scorer: Scorer,
    revisions: RewardRevisions,
    metrics: RpcMetrics,
    probes: Probes,
) -> RpcServer:
    servicer = RewardServicer(scorer)
    inference = RewardInference(settings.reward_model, scorer)
    return RpcServer(
        {
            APP_SERVICE: lambda server: reward_pb2_grpc.add_RewardServiceServicer_to_server(servicer, server),
            INFERENCE_SERVICE: InferenceServicer(inference, revisions.loaded).register,
        },
        host=settings.app.host,
        port=settings.app.port,
        metrics=metrics,
        access=access,
        scope=Scope.SCORE,
        max_deadline_s=settings.max_deadline_s,
        max_stream_s=settings.max_stream_s,
        max_connection_age_s=settings.app.max_connection_age_s,
        described=INFERENCE_POOL,
        probes=probes,
    )


def _control_server(
    settings: RewardSettings, access: Access, servicer: RewardControlServicer, metrics: RpcMetrics
) -> RpcServer:
    return RpcServer(
        {CONTROL_SERVICE: lambda server: control_pb2_grpc.add_RewardControlServiceServicer_to_server(servicer, server)},
        host=settings.control.host,
        port=settings.control.port,
        metrics=metrics,
        access=access,
        scope=Scope.CONTROL,
    )
