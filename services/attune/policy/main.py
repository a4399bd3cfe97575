"""The policy server as a process."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import torch
import uvloop

from attune.api.policy.v1 import control_pb2_grpc, policy_pb2_grpc
from attune.domain.access import Scope
from attune.domain.revisions import ALIASES, ModelName
from attune.modeling.loading import device_named
from attune.modeling.revisions import Held, publishing
from attune.platform.access.settings import Access, open_access, warn_of_others
from attune.platform.events.log import Topic
from attune.platform.events.settings import open_event_log
from attune.platform.inference.servicer import POOL as INFERENCE_POOL
from attune.platform.inference.servicer import SERVICE as INFERENCE_SERVICE
from attune.platform.inference.servicer import InferenceServicer
from attune.platform.lifecycle import cancelled, until_stopped
from attune.platform.registry.follow import AliasFollower
from attune.platform.registry.registry import Registry
from attune.platform.registry.settings import open_registry
from attune.platform.rpc.health import Probes, probed
from attune.platform.rpc.interceptors import RpcMetrics
from attune.platform.rpc.server import RpcServer
from attune.platform.telemetry import new_metrics, serve_metrics, set_up_logging
from attune.platform.tracing import exporting
from attune.platform.web.server import HttpMetrics, HttpServer
from attune.policy.config import PolicySettings
from attune.policy.control import PolicyControlServicer
from attune.policy.engine import Engine
from attune.policy.engines import PolicyEngine
from attune.policy.inference import PolicyInference
from attune.policy.metrics import PolicyMetrics
from attune.policy.openai.door import SHOWN_HEADERS, OpenAiDoor
from attune.policy.openai.refusals import refused
from attune.policy.openai.requests import Reader
from attune.policy.recorder import Recorder
from attune.policy.revisions import PolicyRevisions, policy_revisions, stored_revisions
from attune.policy.servicer import PolicyServicer
from attune.policy.stored import StoredPolicy
from attune.policy.vllm.engine import VllmEngine
from attune.policy.vllm.metrics import EngineMetrics
from attune.policy.writer import Writer

log = logging.getLogger(__name__)
APP_SERVICE = "attune.api.policy.v1.PolicyService"
CONTROL_SERVICE = "attune.api.policy.v1.PolicyControlService"
new_loop = uvloop.new_event_loop
SWITCH_INTERVAL_S = 0.0001
"""How long a thread may keep the interpreter from another. A turn of the engine asks for it again after each of its
operations, and at Python's own 5 ms would stand still for seconds while a revision is loaded. vLLM has none here."""


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
        if settings.engine.name == "transformers":
            stack.callback(sys.setswitchinterval, sys.getswitchinterval())
            sys.setswitchinterval(SWITCH_INTERVAL_S)
        metrics_port = stack.enter_context(serve_metrics(measured, settings.metrics_host, settings.metrics_port))
        stack.enter_context(exporting(settings.tracing, "policy", measured))
        probes = await stack.enter_async_context(probed(settings.health_host, settings.health_port))
        model = ModelName("policies", settings.policy)
        registry = open_registry(settings)
        producer = open_event_log(settings).producer(Topic.GENERATIONS)
        stack.callback(producer.close)
        recorder = stack.enter_context(
            Recorder(producer, metrics, wait_s=settings.record_wait_s, queue_generations=settings.queue_generations)
        )

        async def on_live() -> None:
            await app.set_serving(True)
            if door:
                door.set_serving(True)

        engine, revisions = _engine_and_revisions(settings, registry, model, metrics, on_live)
        if settings.engine.name == "vllm":
            measured.register(EngineMetrics())
        follower = AliasFollower(
            registry,
            model,
            ALIASES,
            poll_interval_s=settings.poll_interval_s,
            on_change=revisions.follow,
            on_error=metrics.count_registry_error,
        )
        decoding = asyncio.create_task(engine.run())
        stack.push_async_callback(cancelled, decoding)
        writer = Writer(revisions.loaded, engine, recorder, metrics, log_texts=settings.log_texts)
        control_servicer = PolicyControlServicer(engine, revisions, follower.hint)
        app = _app_server(settings, access, writer, revisions, rpc_metrics, probes)
        control = _control_server(settings, access, control_servicer, rpc_metrics)
        door = new_door(settings, access, writer, revisions, HttpMetrics(measured))
        stack.push_async_callback(_stop, settings, app, control, door)
        await app.start()
        await control.start()
        if door:
            await door.start(settings.http.host, settings.http.port or 0)
            log.info("policy: OpenAI's clients on %s://%s/v1", access.scheme, door.address)
        await control.set_serving(True)
        log.info("policy: apps on %s, control on %s, metrics on port %d", app.address, control.address, metrics_port)
        await follower.look()
        # All that was imported and loaded so far stays; looking through it again would stop every stream for a while.
        gc.freeze()
        if not revisions.loaded.live:
            log.warning("%s has no stable revision; publish one: %s", model, publishing(str(model)))
        # Shielded: a stop ends the following at once, but the engine only after the calls that wait for it.
        recording: asyncio.Future[None] = asyncio.wrap_future(recorder.failure)
        await until_stopped(stop, [follower.run(), asyncio.shield(decoding), asyncio.shield(recording)])


def _engine_and_revisions(
    settings: PolicySettings,
    registry: Registry,
    model: ModelName,
    metrics: PolicyMetrics,
    on_live: Callable[[], Awaitable[None]],
) -> tuple[PolicyEngine, PolicyRevisions]:
    """The engine of the settings, and the revisions in the form that it takes."""
    limits, dtype, cache = settings.engine.limits(), getattr(torch, settings.dtype), Path(settings.cache_folder)
    if settings.engine.name == "transformers":
        device = device_named(settings.device)
        own = Engine(limits, metrics)
        return own, policy_revisions(
            registry,
            model,
            cache=cache,
            metrics=metrics,
            on_live=on_live,
            watched=own.stillness.watched,
            device=device,
            dtype=dtype,
        )
    vllm, loop = settings.vllm, asyncio.get_running_loop()
    engine = VllmEngine(
        limits,
        metrics,
        dtype=settings.dtype,
        tensor_parallel_size=vllm.tensor_parallel_size,
        arguments=vllm.arguments,
    )

    def activate(held: Held[StoredPolicy]) -> None:
        asyncio.run_coroutine_threadsafe(engine.activate(held), loop).result()

    return engine, stored_revisions(
        registry, model, cache=cache, metrics=metrics, on_live=on_live, activate=activate, dtype=dtype
    )


async def _stop(settings: PolicySettings, app: RpcServer, control: RpcServer, door: HttpServer | None) -> None:
    """The doors of apps say NOT_SERVING together, go on for the notice, and end what they have taken."""
    await asyncio.gather(
        app.stop(settings.grace_s, settings.notice_s),
        control.stop(settings.grace_s),
        *([door.stop(settings.notice_s)] if door else []),
    )


def _app_server(
    settings: PolicySettings,
    access: Access,
    writer: Writer,
    revisions: PolicyRevisions,
    metrics: RpcMetrics,
    probes: Probes,
) -> RpcServer:
    defaults = settings.defaults.sampling()
    servicer = PolicyServicer(writer, defaults)
    inference = PolicyInference(settings.policy, writer, defaults, settings.default_app)
    return RpcServer(
        {
            APP_SERVICE: lambda server: policy_pb2_grpc.add_PolicyServiceServicer_to_server(servicer, server),
            INFERENCE_SERVICE: InferenceServicer(inference, revisions.loaded).register,
        },
        host=settings.app.host,
        port=settings.app.port,
        metrics=metrics,
        access=access,
        scope=Scope.GENERATE,
        max_deadline_s=settings.max_deadline_s,
        max_stream_s=settings.max_stream_s,
        max_connection_age_s=settings.app.max_connection_age_s,
        described=INFERENCE_POOL,
        probes=probes,
    )


def new_door(
    settings: PolicySettings, access: Access, writer: Writer, revisions: PolicyRevisions, metrics: HttpMetrics
) -> HttpServer | None:
    """The door of OpenAI's clients, if the settings give it a port."""
    http, defaults = settings.http, settings.defaults.sampling()
    if http.port is None:
        return None
    warn_of_others(http.host, access)
    reader = Reader(ModelName("policies", settings.policy), defaults, settings.default_app)
    door = OpenAiDoor(
        writer, reader, revisions.loaded, revisions.create_time, keys=access.keys, timeout_s=http.timeout_s
    )
    return HttpServer(
        door.routes,
        http.limits(settings.grace_s),
        metrics,
        tls=access.ssl_context(),
        refuse=refused,
        shown_headers=SHOWN_HEADERS,
        cancels=True,
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
