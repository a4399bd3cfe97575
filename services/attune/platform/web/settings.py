"""The settings of an HTTP door, and the limits that they mean."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from attune.platform.config import Section

KIB = 1024


@dataclass(frozen=True)
class HttpLimits:
    """What a door takes on. `origins` are those of pages whose browsers may call; "*" is every page."""

    origins: frozenset[str] = frozenset()
    max_body_bytes: int = 1024 * KIB
    max_requests: int = 256
    timeout_s: float = 10.0
    grace_s: float = 10.0


class HttpPort(Section):
    """Where programs without gRPC call, and browsers. Without a port there is no such door."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int | None = Field(None, ge=0, le=65535, description="Port; 0 takes a free one.")
    origins: str = Field("", description="Origins of pages whose browsers may call, with commas between; * is all.")
    max_body_kib: int = Field(1024, ge=1, description="Largest body.")
    max_requests: int = Field(256, ge=1, description="Most requests at once; more are refused.")
    timeout_s: float = Field(10.0, gt=0, description="How long a request may take.")

    def limits(self, grace_s: float) -> HttpLimits:
        """`grace_s` is how long requests may still take when the door stops."""
        origins = frozenset(origin.strip() for origin in self.origins.split(",") if origin.strip())
        return HttpLimits(origins, self.max_body_kib * KIB, self.max_requests, self.timeout_s, grace_s)
