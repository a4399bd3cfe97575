"""The health of a process on a port of its own, in the clear, for probes: Kubernetes' have neither TLS nor keys.

grpc.health.v1 under two names, and nothing else. `liveness` is SERVING while the process answers at all; `readiness`,
and "", while the server that it is there for serves. A policy without a revision lives and is not ready, and so does
any service that drains: to end one of them as dead would help nobody.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from attune.domain.errors import AddressInUse

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
LIVENESS, READINESS = "liveness", "readiness"


class Probes:
    """What probes are told. `port` is where they ask; 0 if nobody does."""

    def __init__(self) -> None:
        self.port = 0
        self.servicer = health.aio.HealthServicer()

    async def set_ready(self, is_ready: bool) -> None:
        for name in ("", READINESS):
            await self.servicer.set(name, SERVING if is_ready else NOT_SERVING)


@asynccontextmanager
async def probed(host: str, port: int | None) -> AsyncIterator[Probes]:
    """Answers probes for as long as the block runs; not ready until told. Without a port nobody asks.

    `port` 0 takes a free one. AddressInUse if it cannot listen there.
    """
    probes = Probes()
    await probes.servicer.set(LIVENESS, SERVING)
    await probes.set_ready(False)
    if port is None:
        yield probes
        return
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    health_pb2_grpc.add_HealthServicer_to_server(probes.servicer, server)
    address = f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
    try:
        probes.port = server.add_insecure_port(address)
    except RuntimeError as error:  # all that gRPC says of any reason
        raise AddressInUse(f"cannot answer probes on {address}; another process has it, or no such host") from error
    await server.start()
    try:
        yield probes
    finally:
        await server.stop(None)
