"""The proxy passes bytes on, and fails in the three ways it names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from chaos.proxy import Cut, Proxy
from support.eventually import eventually
from support.processes import free_port

SILENCE_S = 0.2


class Echo:
    """A server that answers what it hears, and remembers it."""

    def __init__(self) -> None:
        self.heard = b""
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            self.heard += data
            writer.write(data.upper())
        writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    one = Echo()
    async with await asyncio.start_server(one.serve, "127.0.0.1", 0) as server:
        one.port = server.sockets[0].getsockname()[1]
        yield one


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    async with Proxy(free_port(), echo.port) as one:
        yield one


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def ends(proxy: Proxy) -> AsyncIterator[Ends]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    yield reader, writer
    writer.transport.abort()


async def test_it_passes_bytes_both_ways_and_the_end(ends: Ends, echo: Echo) -> None:
    reader, writer = ends
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"HELLO"
    writer.write_eof()
    assert await reader.read() == b""
    assert echo.heard == b"hello"


async def test_severed_connections_are_reset_and_new_ones_refused_until_it_is_healed(proxy: Proxy, ends: Ends) -> None:
    await exchanged(ends)
    await proxy.cut(Cut.SEVER)
    with pytest.raises(ConnectionResetError):
        await ends[0].read(1)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", proxy.port)
    await proxy.heal()
    fresh = await asyncio.open_connection("127.0.0.1", proxy.port)
    await exchanged(fresh)
    fresh[1].transport.abort()


async def test_a_stall_holds_what_is_sent_and_passes_it_on_in_the_end(proxy: Proxy, ends: Ends, echo: Echo) -> None:
    await exchanged(ends)
    await proxy.cut(Cut.STALL)
    ends[1].write(b"later")
    await is_silent(ends)
    assert echo.heard == b"hi"
    await proxy.heal()
    assert await ends[0].readexactly(5) == b"LATER"


async def test_a_mute_network_brings_the_request_and_loses_the_answer(proxy: Proxy, ends: Ends, echo: Echo) -> None:
    await exchanged(ends)
    await proxy.cut(Cut.MUTE)
    ends[1].write(b"taken")
    await eventually(lambda: echo.heard == b"hitaken")
    await is_silent(ends)
    await proxy.heal()
    with pytest.raises(ConnectionResetError):
        await ends[0].read(1)


async def test_a_server_that_is_away_ends_the_connection(proxy: Proxy) -> None:
    async with Proxy(free_port(), free_port()) as nowhere:
        reader, writer = await asyncio.open_connection("127.0.0.1", nowhere.port)
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.transport.abort()


async def exchanged(ends: Ends) -> None:
    ends[1].write(b"hi")
    assert await ends[0].readexactly(2) == b"HI"


async def is_silent(ends: Ends) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ends[0].read(1), SILENCE_S)
