"""The ingest process: serves, drains when it is told to stop, and lets another begin where it ended."""

from __future__ import annotations

import asyncio
import gc
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from attune.client import Access, AsyncClient, Receipt
from attune.domain.errors import AttuneError, ConfigurationInvalid, ServerUnavailable, TopicHasWriter
from attune.domain.feedback import FeedbackEvent
from attune.feedback.ingest.config import HttpSettings, IngestSettings
from attune.feedback.ingest.main import main
from attune.platform.access.settings import TlsSettings
from attune.platform.config import AppPort
from attune.platform.events.log import Topic
from attune.platform.events.sqlite import SqliteEventLog
from feedback_samples import APP, an_event
from pydantic import SecretStr
from support.certificates import Authority
from support.processes import free_port
from unit.feedback.ingest.gated import stored


def settings_in(folder: Path) -> IngestSettings:
    return IngestSettings(app=AppPort(port=free_port()), metrics_port=0, events_folder=str(folder), grace_s=5.0)


@asynccontextmanager
async def running(
    settings: IngestSettings, access: Access | None = None
) -> AsyncIterator[tuple[AsyncClient, asyncio.Event]]:
    stop = asyncio.Event()
    process = asyncio.create_task(main(settings, stop))
    address = f"127.0.0.1:{settings.app.port}"
    async with AsyncClient(app_id=APP, feedback_address=address, access=access) as client:
        await client.wait_until_serving(20)
        yield client, stop
    stop.set()
    await process


async def test_events_are_taken_and_kept(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    async with running(settings) as (client, _):
        assert isinstance(await client.submit(an_event(1)), Receipt)
        with pytest.raises(TopicHasWriter):
            SqliteEventLog(tmp_path).producer(Topic.FEEDBACK)
    async with running(settings) as (client, _):
        assert isinstance(await client.submit(an_event(2)), Receipt)
    assert [name for record in stored(SqliteEventLog(tmp_path)) for name in record] == [
        an_event(1).event_id,
        an_event(2).event_id,
    ]


async def test_a_stop_ends_streams_and_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    acknowledged: list[str] = []

    async def events() -> AsyncIterator[FeedbackEvent]:
        for number in range(100_000):
            yield an_event(number)

    async def send(client: AsyncClient, stop: asyncio.Event) -> None:
        async for result in client.stream_feedback(events()):
            acknowledged.append(result.event_id)
            if len(acknowledged) == 500:
                stop.set()

    async with running(settings_in(tmp_path)) as (client, stop):
        with pytest.raises(AttuneError) as ended:
            await send(client, stop)
    assert ended.value.status == "UNAVAILABLE"
    assert set(acknowledged) <= {name for record in stored(SqliteEventLog(tmp_path)) for name in record}


async def test_keys_that_do_not_hold_are_refused_before_anything_listens(tmp_path: Path) -> None:
    settings = settings_in(tmp_path).model_copy(update={"http": HttpSettings(port=0, token_keys=SecretStr("none"))})
    with pytest.raises(ConfigurationInvalid, match="token_keys"):
        await main(settings, asyncio.Event())
    SqliteEventLog(tmp_path).producer(Topic.FEEDBACK).close()


async def test_the_http_door_opens_where_it_has_a_port(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = settings_in(tmp_path).model_copy(update={"http": HttpSettings(port=0)})
    stop = asyncio.Event()
    stop.set()
    await main(settings, stop)
    assert "and http://127.0.0.1:" in capsys.readouterr().err


async def test_both_doors_show_the_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.server()
    tls = TlsSettings(cert_file=str(pair.certificate), key_file=str(pair.key))
    settings = settings_in(tmp_path).model_copy(update={"http": HttpSettings(port=free_port()), "tls": tls})
    trusting = ssl.create_default_context(cafile=str(authority.file))
    async with (
        running(settings, Access(tls=True, ca_file=str(authority.file))) as (client, _),
        aiohttp.ClientSession() as session,
        session.get(f"https://127.0.0.1:{settings.http.port}/v1/health", ssl=trusting) as response,
    ):
        assert (response.status, isinstance(await client.submit(an_event(1)), Receipt)) == (200, True)


async def test_the_interpreter_is_left_as_it_was(tmp_path: Path) -> None:
    before = gc.get_threshold(), gc.get_freeze_count(), sys.getswitchinterval()
    stop = asyncio.Event()
    stop.set()
    await main(settings_in(tmp_path), stop)
    assert (gc.get_threshold(), gc.get_freeze_count(), sys.getswitchinterval()) == before


async def ask_for_ever(client: AsyncClient) -> None:
    """Until the server says that it does not serve."""
    while True:
        await client.wait_until_serving(0.0)


async def test_events_are_still_taken_after_notice_was_given(tmp_path: Path) -> None:
    settings = settings_in(tmp_path).model_copy(update={"notice_s": 1.0})
    async with running(settings) as (client, stop):
        stop.set()
        with pytest.raises(ServerUnavailable, match="NOT_SERVING"):
            await ask_for_ever(client)
        assert isinstance(await client.submit(an_event(1)), Receipt)
