"""A small TCP proxy on loopback that can be cut, for the network between two processes.

Three ways to cut it, each until it is healed:

SEVER  every connection is reset, and new ones are refused.
STALL  nothing passes in either direction, and nobody is told; what was held passes when it is healed.
MUTE   what goes to the server arrives, and its answers are lost; healing resets the connections, as TCP cannot go on.

Lives in one asyncio loop.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from enum import StrEnum
from typing import Self

CHUNK_BYTES = 64 * 1024
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of zero seconds: a close sends RST."""


class Cut(StrEnum):
    """How a network fails."""

    SEVER = "sever"
    STALL = "stall"
    MUTE = "mute"


class Proxy:
    """Passes connections at `port` on to `target` (a port of loopback). An async context manager."""

    def __init__(self, port: int, target: int) -> None:
        self.port, self.address = port, f"127.0.0.1:{port}"
        self._target = target
        self._cut: Cut | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._shut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def cut(self, how: Cut) -> None:
        """From now on the network fails in this way."""
        self._cut = how
        if how is Cut.SEVER:
            await self._shut()
        elif how is Cut.STALL:
            self._flows.clear()

    async def heal(self) -> None:
        """Ends the cut."""
        how, self._cut = self._cut, None
        if how is Cut.MUTE:
            self._reset()
        self._flows.set()
        if self._server is None:
            self._server = await self._listen()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._begin, "127.0.0.1", self.port)

    async def _shut(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self._reset()
        if server is not None:
            await server.wait_closed()

    def _reset(self) -> None:
        for writer in list(self._writers):
            _reset(writer)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            try:
                server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
            except OSError:
                return
            if self._server is None:  # severed meanwhile
                _reset(server_writer)
                return
            self._writers.add(server_writer)
            try:
                await self._exchange(reader, writer, server_reader, server_writer)
            finally:
                self._writers.discard(server_writer)
                _reset(server_writer)
        finally:
            self._writers.discard(writer)
            _reset(writer)

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        """Both directions, until one of them breaks or both have ended."""
        pumps = [
            asyncio.ensure_future(self._pump(reader, server_writer)),
            asyncio.ensure_future(self._pump(server_reader, writer, is_answer=True)),
        ]
        try:
            await asyncio.gather(*pumps)
        except OSError:
            pass
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool = False
    ) -> None:
        while data := await reader.read(CHUNK_BYTES):
            await self._flows.wait()
            if is_answer and self._cut is Cut.MUTE:
                continue
            writer.write(data)
            await writer.drain()
        await self._flows.wait()
        if not (is_answer and self._cut is Cut.MUTE):
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    opened = writer.get_extra_info("socket")
    if opened is not None and not writer.is_closing():
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
