"""The join process: the consumer on a thread of its own, FeedbackControlService on the control port."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import AsyncExitStack, suppress

from sqlalchemy import Engine

from attune.api.feedback.v1 import control_pb2_grpc
from attune.domain.access import Scope
from attune.domain.errors import EventLogUnavailable
from attune.feedback.join.config import JoinSettings
from attune.feedback.join.consumer import JoinConsumer, collect_rarely
from attune.feedback.join.control import FeedbackControlServicer
from attune.feedback.join.database import open_database
from attune.feedback.join.erased import copy_from
from attune.feedback.join.freshness import Freshness
from attune.feedback.join.metrics import JoinMetrics
from attune.feedback.join.store import Store
from attune.feedback.join.tail import Tail
from attune.platform.access.settings import open_access
from attune.platform.events.log import RETENTION_S, EventLog, Topic
from attune.platform.events.settings import open_event_log
from attune.platform.lifecycle import until_stopped
from attune.platform.registry.registry import Registry
from attune.platform.registry.settings import open_registry
from attune.platform.rpc.health import probed
from attune.platform.rpc.interceptors import RpcMetrics
from attune.platform.rpc.server import RpcServer
from attune.platform.telemetry import new_metrics, serve_metrics, set_up_logging
from attune.platform.tracing import exporting

SERVICE = "attune.api.feedback.v1.FeedbackControlService"
LOG_RETRY_S = 1.0
log = logging.getLogger(__name__)


async def main(settings: JoinSettings, stop: asyncio.Event) -> None:
    """Serves until the stop or the first failure."""
    set_up_logging(settings.log_level)
    metrics = new_metrics()
    access = open_access(settings)
    async with AsyncExitStack() as stack:
        stack.enter_context(serve_metrics(metrics, settings.metrics_host, settings.metrics_port))
        stack.enter_context(exporting(settings.tracing, "join", metrics))
        probes = await stack.enter_async_context(probed(settings.health_host, settings.health_port))
        events = open_event_log(settings)
        engine = open_database(settings.database, settings.password())
        stack.callback(engine.dispose)
        _carry_erasures(settings, engine)
        store = Store(engine, settings.limits(), Topic.FEEDBACK)
        tail = await _tail_when_there(settings, events, store, stop)
        if tail is None:
            return
        stack.callback(tail.close)
        registry = open_registry(settings) if settings.registry else None
        consumer = _consumer(settings, events, store, tail, registry, JoinMetrics(metrics), stack)
        servicer = FeedbackControlServicer(store, tail, registry, log_retention_s=max(RETENTION_S.values()))
        server = RpcServer(
            {SERVICE: lambda grpc: control_pb2_grpc.add_FeedbackControlServiceServicer_to_server(servicer, grpc)},
            host=settings.control.host,
            port=settings.control.port,
            metrics=RpcMetrics(metrics),
            access=access,
            scope=Scope.CONTROL,
            max_deadline_s=settings.max_timeout_s,
            probes=probes,
        )
        collect_rarely()
        await server.start()
        await server.set_serving(True)
        log.info("the join serves on %s", server.address)
        try:
            await until_stopped(stop, [_consume(consumer)])
        finally:
            await server.stop(settings.grace_s)


async def _tail_when_there(settings: JoinSettings, events: EventLog, store: Store, stop: asyncio.Event) -> Tail | None:
    """The tail, as soon as the event log answers; None if the stop comes first."""
    while not stop.is_set():
        try:
            return await asyncio.to_thread(_tail, settings, events, store)
        except EventLogUnavailable as error:
            log.warning("the join waits for the event log: %s", error.message)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOG_RETRY_S)
    return None


def _tail(settings: JoinSettings, events: EventLog, store: Store) -> Tail:
    consumers = {topic: events.consumer(topic) for topic in (Topic.GENERATIONS, Topic.FEEDBACK)}
    try:
        return Tail(consumers, store.offset, batch_records=settings.batch_records, clock_slack_s=settings.clock_slack_s)
    except BaseException:
        for consumer in consumers.values():
            consumer.close()
        raise


def _consumer(
    settings: JoinSettings,
    events: EventLog,
    store: Store,
    tail: Tail,
    registry: Registry | None,
    metrics: JoinMetrics,
    stack: AsyncExitStack,
) -> JoinConsumer:
    dead_letters = events.producer(Topic.DEAD_LETTERS)
    stack.callback(dead_letters.close)
    return JoinConsumer(
        store,
        tail,
        dead_letters,
        metrics,
        feedback_retention_s=settings.feedback_retention_s,
        freshness=Freshness(store.engine, registry, metrics.freshness.observe) if registry else None,
        sweep_interval_s=settings.sweep_interval_s,
    )


def _carry_erasures(settings: JoinSettings, engine: Engine) -> None:
    """Before the first record is read: a replay must not bring erased people back."""
    if settings.erasures_from:
        source = open_database(settings.erasures_from, settings.password())
        log.info("%d erasures carried over", copy_from(source, engine))
        source.dispose()


async def _consume(consumer: JoinConsumer) -> None:
    """The consumer's thread; a cancellation asks it to stop and waits until it has."""
    stop = threading.Event()
    thread = asyncio.ensure_future(asyncio.to_thread(consumer.run, stop))
    try:
        await asyncio.shield(thread)
    except asyncio.CancelledError:
        stop.set()
        await thread
        raise
