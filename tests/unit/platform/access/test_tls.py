"""TLS of a real server, asked by real clients: who is let in, and that renewed files hold at the next handshake."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from attune.client import NO_RETRY
from attune.client.access import Access as ClientAccess
from attune.client.calls import AsyncConnection
from attune.domain.errors import ConfigurationInvalid, ServerUnavailable
from attune.platform.access.keys import KeyStore
from attune.platform.access.settings import Access
from attune.platform.access.tls import CertificateFiles, ServerCertificates
from support.certificates import Authority, Pair
from unit.platform.rpc.echo import Echo, echo


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def files_of(pair: Pair, clients: Authority | None = None) -> CertificateFiles:
    return CertificateFiles(pair.certificate, pair.key, clients.file if clients else None)


@asynccontextmanager
async def encrypted(files: CertificateFiles) -> AsyncIterator[Echo]:
    async def nothing(request, context):
        raise AssertionError("only health is asked")

    async with echo(nothing, access=Access(KeyStore(), ServerCertificates(files))) as running:
        await running.server.set_serving(True)
        yield running


async def reach(running: Echo, access: ClientAccess | None) -> None:
    """Returns if the server answers over a fresh connection."""
    async with AsyncConnection(running.server.address, NO_RETRY, access) as connection:
        await connection.wait_until_serving(0.0)


def shown_by(port: int, authority: Authority, client: Pair | None = None) -> int:
    """The serial number of the certificate that the server shows in a handshake."""
    context = ssl.create_default_context(cafile=str(authority.file))
    context.set_alpn_protocols(["h2"])
    if client:
        context.load_cert_chain(client.certificate, client.key)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        return int(str(wrapped.getpeercert()["serialNumber"]), 16)  # type: ignore[index]


async def test_clients_that_trust_the_authority_get_in_and_no_others(tmp_path: Path, authority: Authority) -> None:
    stranger = Authority(tmp_path, "stranger")
    async with encrypted(files_of(authority.server())) as running:
        await reach(running, ClientAccess(tls=True, ca_file=str(authority.file)))
        for access in (None, ClientAccess(tls=True, ca_file=str(stranger.file)), ClientAccess(tls=True)):
            with pytest.raises(ServerUnavailable):
                await reach(running, access)


async def test_where_authorities_of_clients_are_named_a_client_must_show_a_certificate(
    tmp_path: Path, authority: Authority
) -> None:
    own, strangers = authority.client(), Authority(tmp_path, "stranger").client("strange")
    async with encrypted(files_of(authority.server(), clients=authority)) as running:
        trusting = {"tls": True, "ca_file": str(authority.file)}
        await reach(running, ClientAccess(**trusting, cert_file=str(own.certificate), key_file=str(own.key)))
        shown = ClientAccess(**trusting, cert_file=str(strangers.certificate), key_file=str(strangers.key))
        for access in (ClientAccess(**trusting), shown):
            with pytest.raises(ServerUnavailable):
                await reach(running, access)


async def test_a_renewed_certificate_holds_without_a_restart(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    pair, client = authority.server(), authority.client()
    async with encrypted(files_of(pair, clients=authority)) as running:
        access = ClientAccess(
            tls=True, ca_file=str(authority.file), cert_file=str(client.certificate), key_file=str(client.key)
        )
        async with AsyncConnection(running.server.address, NO_RETRY, access) as standing:
            await standing.wait_until_serving(5.0)
            before = await asyncio.to_thread(shown_by, running.server.port, authority, client)
            assert await asyncio.to_thread(shown_by, running.server.port, authority, client) == before
            with caplog.at_level(logging.INFO):
                authority.server()
                after = await asyncio.to_thread(shown_by, running.server.port, authority, client)
            assert after != before
            assert "was renewed" in caplog.text
            await standing.wait_until_serving(0.0)


async def test_another_authority_of_clients_holds_without_a_restart(tmp_path: Path, authority: Authority) -> None:
    clients = Authority(tmp_path, "clients")
    old, trusting = clients.client("old"), {"tls": True, "ca_file": str(authority.file)}
    async with encrypted(files_of(authority.server(), clients=clients)) as running:
        await reach(running, ClientAccess(**trusting, cert_file=str(old.certificate), key_file=str(old.key)))
        new = Authority(tmp_path, "clients").client("new")
        await reach(running, ClientAccess(**trusting, cert_file=str(new.certificate), key_file=str(new.key)))
        with pytest.raises(ServerUnavailable):
            await reach(running, ClientAccess(**trusting, cert_file=str(old.certificate), key_file=str(old.key)))


async def test_a_renewal_seen_halfway_leaves_the_certificate_as_it_was(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    pair = authority.server()
    async with encrypted(files_of(pair)) as running:

        async def shown() -> int:
            return await asyncio.to_thread(shown_by, running.server.port, authority)

        before, fresh = await shown(), authority.server("fresh")
        with caplog.at_level(logging.ERROR):
            shutil.copyfile(fresh.certificate, pair.certificate)
            assert [await shown(), await shown()] == [before, before]
            assert len(caplog.records) == 1
            shutil.copyfile(fresh.key, pair.key)
            assert await shown() != before
            pair.key.unlink()
            assert await shown() != before
        assert "no pair" in caplog.records[0].getMessage()
        assert "cannot be read" in caplog.records[1].getMessage()


def test_files_that_cannot_be_used_are_refused_at_the_start(tmp_path: Path, authority: Authority) -> None:
    one, two, bad = authority.server("one"), authority.server("two"), tmp_path / "bad.pem"
    bad.write_text("no certificate")
    for files in (
        CertificateFiles(one.certificate, two.key),
        CertificateFiles(one.certificate, tmp_path / "none.key"),
        CertificateFiles(bad, one.key),
        CertificateFiles(one.certificate, one.key, bad),
        CertificateFiles(one.certificate, one.key, tmp_path / "none.pem"),
    ):
        with pytest.raises(ConfigurationInvalid):
            ServerCertificates(files)


async def test_the_context_for_other_servers_is_renewed_too(authority: Authority) -> None:
    pair = authority.server()
    context = ServerCertificates(files_of(pair)).ssl_context()

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(close, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        before = await asyncio.to_thread(shown_by, port, authority)
        authority.server()
        assert await asyncio.to_thread(shown_by, port, authority) != before
