"""The channel's options are ones that gRPC takes, and leave retries to the client."""

from __future__ import annotations

import json

import grpc
from attune.client.channel import CHANNEL_OPTIONS, MAX_MESSAGE_BYTES
from attune.client.client import Client
from unit.client.servers import SmallServer


def test_options() -> None:
    options = dict(CHANNEL_OPTIONS)
    assert json.loads(str(options["grpc.service_config"]))["loadBalancingConfig"] == [{"round_robin": {}}]
    assert options["grpc.enable_retries"] == 0
    grpc.insecure_channel("127.0.0.1:1", options=CHANNEL_OPTIONS).close()


def test_messages_above_the_default_limit_of_grpc_pass(server: SmallServer) -> None:
    with Client(app_id="trainer", reward_address=server.address) as client:
        completion = "x" * (3 * 2**20)
        assert len(completion) < MAX_MESSAGE_BYTES
        assert client.score([("Q", completion)]).raw == (len(completion),)
