"""The supervisor: where services find each other, and what becomes of one that ends. Real processes, without torch."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from attune.cli.supervisor import PORTS, Endpoints, Supervisor, last_line, own_sources, settings_of
from attune.domain.errors import ConfigurationInvalid, ServerUnavailable
from support.eventually import eventually


@asynccontextmanager
async def supervising(folder: Path, *extra: str) -> AsyncIterator[tuple[Supervisor, list[str]]]:
    """A supervisor of ingest alone."""
    said: list[str] = []
    endpoints = Endpoints.free()
    settings = {"ingest": [*settings_of(folder, endpoints, 2)["ingest"], *extra]}
    supervisor = Supervisor(folder, endpoints, settings, said.append, pauses_s=(0.05, 0.1))
    supervisor.start(["ingest"])
    try:
        yield supervisor, said
    finally:
        await supervisor.stop()


def test_every_service_finds_the_others(tmp_path: Path) -> None:
    endpoints = Endpoints.usual()
    settings = settings_of(tmp_path, endpoints, cores=2)
    assert settings.keys() == PORTS.keys()
    assert f"addresses.reward={endpoints.address('reward', 'app')}" in settings["trainer"]
    for service in ("policy", "ingest", "join"):
        assert f"events_folder={tmp_path / 'events'}" in settings[service]
    for service in ("policy", "reward", "join", "trainer"):
        assert f"registry={tmp_path / 'registry'}" in settings[service]
    on_kafka = settings_of(tmp_path, endpoints, 2, ["kafka.bootstrap=127.0.0.1:9092"])
    told = [service for service, own in on_kafka.items() if "kafka.bootstrap=127.0.0.1:9092" in own]
    assert told == ["policy", "ingest", "join"]
    assert endpoints.serving_address("join") == "127.0.0.1:7104"
    assert endpoints.serving_address("policy") == "127.0.0.1:7001"


def test_free_ports_are_all_different_and_saved(tmp_path: Path) -> None:
    endpoints = Endpoints.free()
    ports = [port for uses in endpoints.ports.values() for port in uses.values()]
    assert len(set(ports)) == len(ports) == 14
    endpoints.save(tmp_path)
    saved = json.loads((tmp_path / "endpoints.json").read_text())
    assert saved["policy"]["app"] == endpoints.address("policy", "app")


async def test_a_service_may_have_an_interpreter_of_its_own(tmp_path: Path) -> None:
    told = tmp_path / "told"
    interpreter = tmp_path / "python"
    interpreter.write_text(f'#!/bin/sh\necho "$PYTHONPATH $*" > {told}\nexec {sys.executable} "$@"\n')
    interpreter.chmod(0o755)
    endpoints = Endpoints.free()
    settings = {"ingest": settings_of(tmp_path, endpoints, 2)["ingest"]}
    supervisor = Supervisor(tmp_path, endpoints, settings, print, interpreters={"ingest": interpreter})
    supervisor.start(["ingest"])
    try:
        await supervisor.wait_until_serving(["ingest"], 30)
    finally:
        await supervisor.stop()
    assert told.read_text().startswith(f"{own_sources()['PYTHONPATH']} -m attune.cli.main feedback ingest --set ")


async def test_a_killed_service_is_started_again(tmp_path: Path) -> None:
    async with supervising(tmp_path) as (supervisor, said):
        await supervisor.wait_until_serving(["ingest"], 30)
        first = supervisor.pid("ingest")
        assert first
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: supervisor.pid("ingest") not in (None, first), 30)
        await supervisor.wait_until_serving(["ingest"], 30)
        second = supervisor.pid("ingest")
        assert supervisor.restarts == {"ingest": 1}
        assert "ingest ended with status -9 and is started again" in said[0]
    with pytest.raises(ProcessLookupError):
        os.kill(second or 0, 0)


async def test_why_a_service_cannot_run_is_told_and_it_runs_once_it_can(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with supervising(tmp_path, f"metrics_port={port}") as (supervisor, said):
            await eventually(lambda: said, 30)
            assert "ingest ended with status 1 and is started again in 0.05 s: " in said[0]
            assert f"cannot serve metrics on 127.0.0.1:{port}: Address already in use" in said[0]
            taken.close()
            await supervisor.wait_until_serving(["ingest"], 30)


async def test_a_misconfigured_service_is_not_tried_again(tmp_path: Path) -> None:
    async with supervising(tmp_path, "queue_evnts=3") as (supervisor, _):
        with pytest.raises(ConfigurationInvalid, match="did you mean queue_events"):
            await supervisor.wait_until_serving(["ingest"], 30)


async def test_who_does_not_serve_in_time_is_named_with_its_log(tmp_path: Path) -> None:
    async with supervising(tmp_path) as (supervisor, _):
        with pytest.raises(ServerUnavailable, match=r"ingest does not serve after 0.01 s; see .*ingest.log"):
            await supervisor.wait_until_serving(["ingest"], 0.01)


async def test_failed_waits_as_long_as_all_is_well(tmp_path: Path) -> None:
    async with supervising(tmp_path) as (supervisor, _):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(supervisor.failed(), 0.05)


def test_the_last_line_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    assert last_line(log) == "the log is empty"
    log.write_text('plain\n{"message": "as json"}\n')
    assert last_line(log) == "as json"
    log.write_text('{"message": "as json"}\nplain\n\n')
    assert last_line(log) == "plain"
