"""The door before a running policy server, and OpenAI's SDK pointed at it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest_asyncio
from attune.domain.generations import Sampling
from attune.platform.access.keys import KeyStore
from attune.platform.web.server import HttpMetrics, HttpServer
from attune.platform.web.settings import HttpLimits
from attune.policy.openai.door import SHOWN_HEADERS, OpenAiDoor
from attune.policy.openai.refusals import refused
from attune.policy.openai.requests import APP, Reader
from openai import AsyncOpenAI
from unit.policy.serving import MODEL, Server


@dataclass
class Opened:
    """What a test may look at and talk to; `openai` calls for the app "test"."""

    server: Server
    http: HttpServer
    openai: AsyncOpenAI

    @property
    def url(self) -> str:
        return f"http://{self.http.address}/v1"


@asynccontextmanager
async def opened(server: Server, timeout_s: float = 60.0, keys: KeyStore | None = None) -> AsyncIterator[Opened]:
    revisions = server.shop.revisions
    reader = Reader(MODEL, Sampling(max_tokens=12), "default")
    door = OpenAiDoor(
        server.writer,
        reader,
        revisions.loaded,
        revisions.create_time,
        keys=keys or KeyStore(),
        timeout_s=timeout_s,
    )
    http = HttpServer(
        door.routes,
        HttpLimits(timeout_s=timeout_s),
        HttpMetrics(server.shop.measured),
        refuse=refused,
        shown_headers=SHOWN_HEADERS,
        cancels=True,
    )
    await http.start("127.0.0.1", 0)
    url = f"http://{http.address}/v1"
    try:
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0, default_headers={APP: "test"}) as client:
            yield Opened(server, http, client)
    finally:
        await http.stop()


@pytest_asyncio.fixture
async def door(server: Server) -> AsyncIterator[Opened]:
    async with opened(server) as door:
        yield door
