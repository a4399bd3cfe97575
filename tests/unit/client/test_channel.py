"""The channel's options are ones that gRPC takes, and leave retries to the client; renewed certificates hold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from attune.api.policy.v1 import policy_pb2, policy_pb2_grpc
from attune.client import NO_RETRY, Access, AsyncClient
from attune.client.channel import CHANNEL_OPTIONS, MAX_MESSAGE_BYTES
from attune.client.client import Client
from attune.domain.errors import ServerUnavailable
from support.certificates import Authority, Pair
from unit.client.servers import SmallPolicy, SmallServer


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


class Seen(SmallPolicy):
    """Notes the certificate and the key of each caller."""

    def __init__(self) -> None:
        super().__init__()
        self.certificates: list[bytes] = []
        self.bearers: list[str] = []

    def Generate(self, request: policy_pb2.GenerateRequest, context: grpc.ServicerContext) -> object:
        self.certificates.append(context.auth_context().get("x509_pem_cert", [b""])[0].strip())
        self.bearers += [str(v) for k, v in context.invocation_metadata() if k == "authorization"]
        return super().Generate(request, context)


@contextmanager
def demanding(authority: Authority) -> Iterator[tuple[str, Seen]]:
    """The address of a server that asks for certificates, and what it sees."""
    pair, seen = authority.server(), Seen()
    server = grpc.server(ThreadPoolExecutor(4))
    policy_pb2_grpc.add_PolicyServiceServicer_to_server(seen, server)
    credentials = grpc.ssl_server_credentials(
        [(pair.key.read_bytes(), pair.certificate.read_bytes())], authority.file.read_bytes(), True
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield f"127.0.0.1:{port}", seen
    finally:
        server.stop(None).wait()


def access_of(authority: Authority, client: Pair) -> Access:
    return Access(
        tls=True,
        ca_file=str(authority.file),
        cert_file=str(client.certificate),
        key_file=str(client.key),
        bearer="swordfish",
    )


def test_a_renewed_certificate_is_shown_without_a_restart(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    client, fresh = authority.client(), authority.client("fresh")
    first = client.certificate.read_bytes().strip()
    with (
        demanding(authority) as (address, seen),
        Client(app_id="shop", policy_address=address, access=access_of(authority, client)) as app,
    ):
        stream = app.stream("Hello")
        next(stream)
        app.generate("Hello")
        shutil.copyfile(fresh.certificate, client.certificate)
        app.generate("Hello")  # halfway: key and certificate are no pair yet
        shutil.copyfile(fresh.key, client.key)
        app.generate("Hello")
        assert seen.certificates == [first, first, fresh.certificate.read_bytes().strip()]
        assert len(list(stream)) == 2  # what began before goes on
        assert set(seen.bearers) == {"Bearer swordfish"}


async def test_a_renewed_certificate_is_shown_without_a_restart_by_asyncio(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    client = authority.client()
    first = client.certificate.read_bytes().strip()
    with demanding(authority) as (address, seen):
        async with AsyncClient(app_id="shop", policy_address=address, access=access_of(authority, client)) as app:
            stream = app.stream("Hello")
            await anext(stream)
            await app.generate("Hello")
            authority.client()
            await app.generate("Hello")
            assert seen.certificates == [first, client.certificate.read_bytes().strip()]
            assert len([message async for message in stream]) == 2
            authority.client()
            await app.generate("Hello")
    assert len(set(seen.certificates)) == 3


@pytest.mark.parametrize("how", ["in the clear", "no certificate"])
def test_a_server_that_asks_for_certificates_is_unavailable_without(tmp_path: Path, how: str) -> None:
    authority = Authority(tmp_path)
    access = None if how == "in the clear" else Access(tls=True, ca_file=str(authority.file))
    with (
        demanding(authority) as (address, seen),
        Client(app_id="shop", policy_address=address, access=access, retry=NO_RETRY) as app,
        pytest.raises(ServerUnavailable),
    ):
        app.generate("Hello", timeout_s=2.0)
    assert seen.certificates == []
