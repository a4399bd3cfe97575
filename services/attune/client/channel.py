"""How the client's channels are set up: load balancing, keepalive, reconnection, message sizes.

gRPC's own retries are off: attune.client.retries decides, for a retry of Generate must draw a new id.
"""

from __future__ import annotations

import json

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
