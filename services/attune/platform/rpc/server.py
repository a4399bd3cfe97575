"""A gRPC server of one port: interceptor, TLS, health, reflection, keepalive, limits, and a stop that drains.

A process has one for its app port and one for its control port, both from here. Health is NOT_SERVING until told
otherwise, under the name of each service and under "" for the whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from attune.domain.access import Scope
from attune.domain.errors import AddressInUse
from attune.platform.access.settings import OPEN, Access
from attune.platform.rpc.health import NOT_SERVING, SERVING, Probes
from attune.platform.rpc.interceptors import RpcMetrics, ServerInterceptor

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MAX_CONNECTION_AGE_S, GRACE_SLACK_S = 1800.0, 10.0
OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Clients may ping every 10 s, also while a long request sends nothing back.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A port that another process listens on is an error, never shared.
    ("grpc.so_reuseport", 0),
]
Register = Callable[[grpc.aio.Server], None]


class _Described:
    """What reflection asks a descriptor pool: answered by `first` and, for what it does not know, the default one."""

    def __init__(self, first: DescriptorPool) -> None:
        self._first, self._default = first, descriptor_pool.Default()

    def FindFileByName(self, name: str) -> FileDescriptor:
        try:
            return self._first.FindFileByName(name)
        except KeyError:
            return self._default.FindFileByName(name)

    def FindFileContainingSymbol(self, name: str) -> FileDescriptor:
        try:
            return self._first.FindFileContainingSymbol(name)
        except KeyError:
            return self._default.FindFileContainingSymbol(name)

    def __getattr__(self, name: str) -> Any:
        """Extensions, of which `first` has none."""
        return getattr(self._default, name)


class RpcServer:
    """`services` maps full service names to what registers their servicer. `port` 0 takes a free one.

    `max_stream_s` bounds a stream of requests, `max_deadline_s` any other call, and the former too if that is absent.
    A connection ends after `max_connection_age_s`, ten per cent more or less so that not all go at once: its callers
    connect anew, perhaps to another server, and see a renewed certificate; its calls go on to their deadlines. Callers
    need keys of `access` made for `scope`. `options` are gRPC's, over those of this module. Reflection describes
    services from `described` and, what that pool does not know, from the default one. `probes` are ready
    while it serves. AddressInUse if it cannot listen there.
    """

    def __init__(
        self,
        services: dict[str, Register],
        *,
        host: str,
        port: int,
        metrics: RpcMetrics,
        access: Access = OPEN,
        scope: Scope = Scope.CONTROL,
        max_deadline_s: float = 3600.0,
        max_stream_s: float | None = None,
        max_connection_age_s: float = MAX_CONNECTION_AGE_S,
        options: Sequence[tuple[str, Any]] = (),
        described: DescriptorPool | None = None,
        probes: Probes | None = None,
    ) -> None:
        interceptor = ServerInterceptor(
            metrics, access.keys, scope, max_deadline_s=max_deadline_s, max_stream_s=max_stream_s or max_deadline_s
        )
        longest_s = max(max_deadline_s, max_stream_s or 0.0)
        ages = {
            "grpc.max_connection_age_ms": round(max_connection_age_s * 1000),
            "grpc.max_connection_age_grace_ms": round((longest_s + GRACE_SLACK_S) * 1000),
        }
        self._server = grpc.aio.server(
            interceptors=[interceptor], options=list((dict(OPTIONS) | ages | dict(options)).items())
        )
        self._health = health.aio.HealthServicer()
        self._probes = probes or Probes()
        self._names = ["", *services]
        for register in services.values():
            register(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = [*services, health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, self._server, pool=_Described(described) if described else None)
        address = f"[{host}]" if ":" in host and not host.startswith("[") else host
        try:
            self.port = _listen(self._server, f"{address}:{port}", access)
        except RuntimeError as error:  # all that gRPC says of any reason
            raise AddressInUse(f"cannot listen on {address}:{port}; another process has it, or no such host") from error
        self.address = f"{address}:{self.port}"

    async def start(self) -> None:
        """Accepts calls; health says NOT_SERVING."""
        await self.set_serving(False)
        await self._server.start()

    async def set_serving(self, is_serving: bool) -> None:
        for name in self._names:
            await self._health.set(name, SERVING if is_serving else NOT_SERVING)
        await self._probes.set_ready(is_serving)

    async def stop(self, grace_s: float, notice_s: float = 0.0) -> None:
        """NOT_SERVING; after `notice_s`, in which who sends calls here may hear of it, no new calls; then running ones
        may take `grace_s` to end."""
        await self._probes.set_ready(False)
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(notice_s)
        await self._server.stop(grace_s)


def _listen(server: grpc.aio.Server, address: str, access: Access) -> int:
    if access.certificates is None:
        return server.add_insecure_port(address)
    return server.add_secure_port(address, access.certificates.grpc_credentials())
