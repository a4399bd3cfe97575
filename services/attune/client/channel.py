"""The client's channels: load balancing, keepalive, reconnection, message sizes, TLS and its renewal.

gRPC's own retries are off: attune.client.retries decides, for a retry of Generate must draw a new id.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio

from attune.client.access import Access
from attune.domain.errors import ConfigurationInvalid

C = TypeVar("C")

MAX_MESSAGE_BYTES = 64 * 2**20

SERVICE_CONFIG: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}

CHANNEL_OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    ("grpc.enable_retries", 0),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # A long prefill sends nothing for a while; the ping keeps middle boxes from closing the connection. Servers of
    # Attune permit pings every 10 s.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # gRPC waits up to two minutes before it looks for a restarted server again; an online loop does not.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


def open_channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    """A channel for blocking callers; in the clear without credentials."""
    if credentials is None:
        return grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
    return grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS)


def open_async_channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    """A channel for asyncio; in the clear without credentials."""
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
    return grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)


class RenewedChannel(Generic[C]):
    """The channel to `address`, another one once the certificates of `access` were renewed: gRPC gives a channel its
    certificate for life. Calls that run on the one before go on there; it is kept until the next renewal."""

    def __init__(self, address: str, access: Access, open_one: Callable[[str, Any], C]) -> None:
        self._address, self._access, self._open_one = address, access, open_one
        self._lock = threading.Lock()
        self._stamp = access.stamp()
        self.kept = [open_one(address, access.channel_credentials())]

    def current(self) -> C:
        """The channel for the next call."""
        if self._access.tls and self._access.stamp() != self._stamp:
            self._renew()
        return self.kept[-1]

    def _renew(self) -> None:
        with self._lock:
            found = self._access.stamp()
            try:
                credentials = self._access.channel_credentials()
            except ConfigurationInvalid:
                return  # a renewal seen halfway; the next call looks again
            self.kept = [self.kept[-1], self._open_one(self._address, credentials)]
            self._stamp = found
