"""The ingest process: FeedbackService on the app port, one writer of the feedback topic."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

import uvloop

from attune.domain.access import Scope
from attune.feedback.ingest.acceptor import MIB, Acceptor
from attune.feedback.ingest.config import IngestSettings
from attune.feedback.ingest.intake import Intake
from attune.feedback.ingest.metrics import IngestMetrics
from attune.feedback.ingest.pace import CommitPace
from attune.feedback.ingest.retention import trim_regularly
from attune.feedback.ingest.servicer import SERVICE, FeedbackServicer
from attune.feedback.ingest.web.credentials import load_credentials
from attune.feedback.ingest.web.door import FeedbackDoor
from attune.platform.access.settings import Access, open_access
from attune.platform.events.log import Topic
from attune.platform.events.settings import open_event_log
from attune.platform.lifecycle import until_stopped
from attune.platform.rpc.health import probed
from attune.platform.rpc.interceptors import RpcMetrics
from attune.platform.rpc.server import RpcServer
from attune.platform.telemetry import new_metrics, serve_metrics, set_up_logging
from attune.platform.tracing import exporting
from attune.platform.web.server import HttpMetrics, HttpServer

log = logging.getLogger(__name__)
OPTIONS = [("grpc.max_receive_message_length", 4 * MIB)]
"""Room for 1000 events of 4 KB; what calls in flight hold is a multiple of it."""
new_loop = uvloop.new_event_loop
SWITCH_INTERVAL_S = 0.0005
"""How long the thread that writes, and with it every event, may wait for the interpreter while calls keep it busy."""


async def main(settings: IngestSettings, stop: asyncio.Event) -> None:
    """Serves until the stop or the first failure."""
    set_up_logging(settings.log_level)
    metrics = new_metrics()
    access = open_access(settings)
    async with AsyncExitStack() as stack:
        stack.enter_context(serve_metrics(metrics, settings.metrics_host, settings.metrics_port))
        stack.enter_context(exporting(settings.tracing, "ingest", metrics))
        probes = await stack.enter_async_context(probed(settings.health_host, settings.health_port))
        producer = open_event_log(settings).producer(Topic.FEEDBACK)
        stack.callback(producer.close)
        counts = IngestMetrics(metrics)
        acceptor = await stack.enter_async_context(
            Acceptor(
                producer,
                queue_events=settings.queue_events,
                queue_bytes=settings.queue_mib * MIB,
                remembered_events=settings.remembered_events,
                pace=CommitPace(settings.longest_commit_interval_s),
            )
        )
        intake = Intake(acceptor, counts, log_timeout_s=settings.log_timeout_s)
        servicer = FeedbackServicer(intake)
        server = RpcServer(
            {SERVICE: servicer.register},
            host=settings.app.host,
            port=settings.app.port,
            metrics=RpcMetrics(metrics),
            access=access,
            scope=Scope.FEEDBACK,
            max_deadline_s=settings.max_timeout_s,
            max_stream_s=settings.max_stream_s,
            max_connection_age_s=settings.app.max_connection_age_s,
            options=OPTIONS,
            probes=probes,
        )
        door = new_door(settings, access, intake, HttpMetrics(metrics))
        await server.start()
        try:
            if door:
                await door.start(settings.http.host, settings.http.port or 0)
                door.set_serving(True)
            await server.set_serving(True)
            stack.enter_context(tuned_interpreter())
            log.info("ingest serves on %s%s", server.address, f" and {access.scheme}://{door.address}" if door else "")
            await until_stopped(stop, [acceptor.failure(), trim_regularly(producer, settings.trim_interval_s)])
        finally:
            await _stop(settings, server, servicer, door)


async def _stop(
    settings: IngestSettings, server: RpcServer, servicer: FeedbackServicer, door: HttpServer | None
) -> None:
    """Both doors say NOT_SERVING, go on for the notice, and end what they have taken."""
    stopping = asyncio.ensure_future(server.stop(settings.grace_s, settings.notice_s))
    if door:
        door.set_serving(False)
    await asyncio.sleep(settings.notice_s)
    servicer.drain()
    await asyncio.gather(stopping, *([door.stop()] if door else []))


def new_door(settings: IngestSettings, access: Access, intake: Intake, metrics: HttpMetrics) -> HttpServer | None:
    """The HTTP door, if the settings give it a port. ConfigurationInvalid for keys that do not hold."""
    http = settings.http
    if http.port is None:
        return None
    door = FeedbackDoor(intake, load_credentials(http, access.keys), timeout_s=http.timeout_s)
    return HttpServer(door.routes, http.limits(settings.grace_s), metrics, tls=access.ssl_context())


@contextmanager
def tuned_interpreter() -> Iterator[None]:
    """For a process that makes no cycles and must not pause: what lives for ever is not looked at again, and the rest
    rarely; threads take turns quickly."""
    threshold, interval_s = gc.get_threshold(), sys.getswitchinterval()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        sys.setswitchinterval(interval_s)
        gc.set_threshold(*threshold)
        gc.unfreeze()
