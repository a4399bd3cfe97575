"""Connections: a server that goes away and comes back is found again within a call's deadline."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from attune.api.policy.v1 import policy_pb2_grpc
from attune.client.calls import AsyncConnection, Call, Connection
from attune.client.requests import generate, prompt_of
from attune.client.retries import RetryPolicy
from attune.domain.errors import ServerUnavailable
from unit.client.servers import SmallPolicy, SmallServer

PATIENT = RetryPolicy(attempts=1000, first_s=0.02, factor=1.0)


def serve(port: int, servicer: SmallPolicy) -> tuple[grpc.Server, int]:
    server = grpc.server(ThreadPoolExecutor(2))
    policy_pb2_grpc.add_PolicyServiceServicer_to_server(servicer, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, bound


def test_a_restarted_server_is_found_again() -> None:
    first, port = serve(0, SmallPolicy())
    restarted: list[grpc.Server] = []
    with Connection(f"127.0.0.1:{port}", PATIENT) as connection:
        connection.call(generate("shop", "Hello", {}, 20))
        first.stop(None).wait()
        tried_once = Connection(connection.address, RetryPolicy(attempts=1))
        with tried_once, pytest.raises(ServerUnavailable):
            tried_once.call(generate("shop", "Hello", {}, 20))
        restart = threading.Thread(target=lambda: restarted.append(serve(port, SmallPolicy())[0]))
        restart.start()
        assert connection.call(generate("shop", "Hello", {}, 20)).texts == ("one",)
        restart.join()
    restarted[0].stop(None).wait()


async def test_what_may_not_be_retried_is_tried_once(server: SmallServer) -> None:
    server.policy.script.errors = [ServerUnavailable("away")]
    call = generate("shop", prompt_of("Hello"), {}, 5)
    once = Call(call.method, call.make_request, call.read, call.timeout_s, may_retry=False)
    async with AsyncConnection(server.address, PATIENT) as connection:
        with pytest.raises(ServerUnavailable):
            await connection.call(once)
        assert (await connection.call(once)).recorded
    assert len(server.policy.script.seen) == 2
