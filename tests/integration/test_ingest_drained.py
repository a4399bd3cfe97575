"""The real ingest process, told to stop in the middle of load through every door: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from attune.client import NO_RETRY, Access, AsyncClient, FeedbackEvent, Rating, Receipt, new_event
from attune.domain.errors import AttuneError
from fuzz.ingest import APP, GENERATION, KEY, Ingest, running, stored
from google.protobuf.json_format import MessageToDict
from support.eventually import eventually

GRACE_S = 10.0


def event() -> FeedbackEvent:
    return new_event(APP, Rating(f"{GENERATION}/0", 1.0), subject_id="ann")


async def submits(client: AsyncClient, taken: set[str]) -> None:
    while True:
        taken.add((await client.submit(event())).event_id)


async def ingests(client: AsyncClient, taken: set[str]) -> None:
    while True:
        results = await client.ingest([event() for _ in range(50)])
        taken.update(result.event_id for result in results if isinstance(result, Receipt))
        if not all(isinstance(result, Receipt) for result in results):
            return


async def streams(client: AsyncClient, taken: set[str]) -> None:
    async def events() -> AsyncIterator[FeedbackEvent]:
        while True:
            yield event()

    async for result in client.stream_feedback(events()):
        if isinstance(result, Receipt):
            taken.add(result.event_id)


async def posts(ingest: Ingest, taken: set[str]) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as session:
        while True:
            body = json.dumps(MessageToDict(event().to_proto()))
            async with session.post(f"http://127.0.0.1:{ingest.http_port}/v1/feedback", data=body) as response:
                if response.status != 200:
                    return
                taken.add((await response.json())["receipt"]["eventId"])


@pytest.mark.slow
async def test_a_stop_in_the_middle_of_load_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    taken: dict[str, set[str]] = {"submits": set(), "ingests": set(), "streams": set(), "posts": set()}
    async with running(tmp_path, asks_for_keys=True) as ingest:
        address, access = f"127.0.0.1:{ingest.grpc_port}", Access(bearer=KEY)
        async with AsyncClient(app_id=APP, feedback_address=address, access=access, retry=NO_RETRY) as client:
            senders = [
                asyncio.create_task(submits(client, taken["submits"])),
                asyncio.create_task(ingests(client, taken["ingests"])),
                asyncio.create_task(streams(client, taken["streams"])),
                asyncio.create_task(posts(ingest, taken["posts"])),
            ]
            await eventually(lambda: all(len(found) > 30 for found in taken.values()), 30)
            stopped = time.monotonic()
            ingest.process.terminate()
            ends = await asyncio.gather(*senders, return_exceptions=True)
            assert await asyncio.wait_for(ingest.process.wait(), GRACE_S + 5) == 0
            assert time.monotonic() - stopped < GRACE_S
        assert ingest.errors() == []
    assert all(end is None or isinstance(end, AttuneError | aiohttp.ClientError) for end in ends), ends
    assert set().union(*taken.values()) <= stored(tmp_path / "events")
