"""The ingest process: FeedbackService on the app port, one writer of the feedback topic."""

from __future__ import annotations

import asyncio
import logging
from contextlib import ExitStack

from attune.api.feedback.v1 import feedback_pb2_grpc
from attune.feedback.ingest.acceptor import Acceptor
from attune.feedback.ingest.config import IngestSettings
from attune.feedback.ingest.metrics import IngestMetrics
from attune.feedback.ingest.servicer import FeedbackServicer
from attune.platform.events.log import Topic
from attune.platform.events.settings import open_event_log
from attune.platform.lifecycle import until_stopped
from attune.platform.rpc.interceptors import RpcMetrics
from attune.platform.rpc.server import RpcServer
from attune.platform.telemetry import new_metrics, serve_metrics, set_up_logging

SERVICE = "attune.api.feedback.v1.FeedbackService"
log = logging.getLogger(__name__)


async def main(settings: IngestSettings, stop: asyncio.Event) -> None:
    """Serves until the stop or the first failure."""
    set_up_logging(settings.log_level)
    metrics = new_metrics()
    with ExitStack() as stack:
        stack.enter_context(serve_metrics(metrics, settings.metrics_host, settings.metrics_port))
        producer = open_event_log(settings).producer(Topic.FEEDBACK)
        stack.callback(producer.close)
        acceptor = stack.enter_context(
            Acceptor(
                producer,
                queue_events=settings.queue_events,
                remembered_events=settings.remembered_events,
                trim_interval_s=settings.trim_interval_s,
            )
        )
        servicer = FeedbackServicer(acceptor, IngestMetrics(metrics))
        server = RpcServer(
            {SERVICE: lambda grpc: feedback_pb2_grpc.add_FeedbackServiceServicer_to_server(servicer, grpc)},
            host=settings.app.host,
            port=settings.app.port,
            metrics=RpcMetrics(metrics),
            max_deadline_s=settings.max_timeout_s,
        )
        await server.start()
        await server.set_serving(True)
        log.info("ingest serves on %s", server.address)
        try:
            failed: asyncio.Future[None] = asyncio.wrap_future(acceptor.failure)
            await until_stopped(stop, [failed])
        finally:
            await server.stop(settings.grace_s)
