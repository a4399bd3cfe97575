"""One leads, the others wait: it is taken over if not renewed, given up if it cannot be, given back at the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from attune.domain.errors import ConfigurationInvalid, LeaseLost, ServerUnavailable
from attune.platform.lease import KubernetesLease, Lease, LeaseRecord, LeaseSettings, open_lease
from support.leases import ApiServer, api_server

DURATION_S = 0.5


class MemoryLease:
    """A store that refuses writes over another version, and can be away."""

    def __init__(self) -> None:
        self.record = LeaseRecord(version="0")
        self.is_away, self.refused = False, 0
        self._lock = threading.Lock()

    def read(self) -> LeaseRecord:
        if self.is_away:
            self.refused += 1
            raise ServerUnavailable("away")
        return self.record

    def replace(self, record: LeaseRecord) -> LeaseRecord | None:
        with self._lock:
            if self.read().version != record.version:
                return None
            self.record = replace(record, version=str(int(record.version) + 1))
            return self.record


class Clock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def until(claim: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not claim():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def lease(store: MemoryLease, name: str, **how: Any) -> Lease:
    return Lease(store, name, duration_s=how.pop("duration_s", DURATION_S), **how)


async def test_a_free_lease_is_taken() -> None:
    store = MemoryLease()
    assert await lease(store, "first").acquired(asyncio.Event())
    assert store.record.holder == "first"


async def test_the_second_waits_until_the_first_gives_it_back() -> None:
    store, stop, said = MemoryLease(), asyncio.Event(), []
    first, second = lease(store, "first"), lease(store, "second")
    assert await first.acquired(stop)
    async with first.kept() as keeping:
        waiting = asyncio.create_task(second.acquired(stop, said.append))
        await until(lambda: bool(said))
        version = store.record.version
        await until(lambda: int(store.record.version) > int(version) + 2)  # renewed meanwhile
        assert not waiting.done()
        assert not keeping.done()
    assert await waiting
    assert store.record.holder == "second"
    assert said[0] == "waits for the lease of first"


async def test_a_lease_that_is_not_renewed_is_taken_over_after_its_duration() -> None:
    store, stop, clock = MemoryLease(), asyncio.Event(), Clock()
    assert await lease(store, "first").acquired(stop)
    second = lease(store, "second", clock=clock, duration_s=30.0)
    assert not await second._try()
    clock.now_s += 29.0
    assert not await second._try()
    clock.now_s += 2.0
    assert await second._try()
    assert store.record.holder == "second"


async def test_the_time_begins_anew_with_every_renewal() -> None:
    store, clock = MemoryLease(), Clock()
    assert await lease(store, "first").acquired(asyncio.Event())
    second = lease(store, "second", clock=clock, duration_s=30.0)
    assert not await second._try()
    clock.now_s += 29.0
    store.replace(store.record)
    assert not await second._try()
    clock.now_s += 29.0
    assert not await second._try()


async def test_who_was_overtaken_gives_up() -> None:
    store = MemoryLease()
    first = lease(store, "first")
    assert await first.acquired(asyncio.Event())
    async with first.kept() as keeping:
        store.record = LeaseRecord("second", version="77")
        with pytest.raises(LeaseLost, match="another process"):
            await asyncio.wait_for(asyncio.shield(keeping), 20)
    assert store.record.holder == "second"


async def test_who_was_paused_too_long_gives_up_before_it_renews() -> None:
    store, clock = MemoryLease(), Clock()
    first = lease(store, "first", clock=clock)
    assert await first.acquired(asyncio.Event())
    version = store.record.version
    clock.now_s += DURATION_S
    async with first.kept() as keeping:
        with pytest.raises(LeaseLost, match="not renewed"):
            await asyncio.wait_for(asyncio.shield(keeping), 20)
    assert store.record.version == version


async def test_a_server_that_is_away_for_a_moment_changes_nothing() -> None:
    store = MemoryLease()
    first = lease(store, "first", duration_s=5.0)
    assert await first.acquired(asyncio.Event())
    async with first.kept() as keeping:
        store.is_away = True
        await until(lambda: store.refused > 0)
        store.is_away = False
        version = store.record.version
        await until(lambda: store.record.version != version)
        assert not keeping.done()


async def test_a_server_that_stays_away_ends_it() -> None:
    store = MemoryLease()
    first = lease(store, "first")
    assert await first.acquired(asyncio.Event())
    async with first.kept() as keeping:
        store.is_away = True
        with pytest.raises(LeaseLost, match="not renewed"):
            await asyncio.wait_for(asyncio.shield(keeping), 20)


async def test_a_stop_ends_the_waiting() -> None:
    store, stop = MemoryLease(), asyncio.Event()
    assert await lease(store, "first").acquired(stop)
    waiting = asyncio.create_task(lease(store, "second", duration_s=600.0).acquired(stop))
    stop.set()
    assert not await waiting


async def test_a_server_that_is_away_is_asked_again() -> None:
    store = MemoryLease()
    store.is_away = True
    waiting = asyncio.create_task(lease(store, "first").acquired(asyncio.Event()))
    await until(lambda: store.refused > 0)
    store.is_away = False
    assert await asyncio.wait_for(waiting, 20)


def test_without_a_name_there_is_none() -> None:
    assert open_lease(LeaseSettings()) is None


def test_outside_a_cluster_a_named_lease_is_a_wrong_setting(tmp_path: Path) -> None:
    settings = LeaseSettings(name="x", namespace="ml", kubeconfig=str(tmp_path / "none"))
    with pytest.raises(ConfigurationInvalid, match=r"lease\.name is set"):
        open_lease(settings)


def test_the_api_servers_lease_is_read_and_replaced(tmp_path: Path) -> None:
    with api_server(tmp_path) as settings:
        store = KubernetesLease(settings)
        free = store.read()
        assert free == LeaseRecord(version="1")
        held = store.replace(replace(free, holder="first", transitions=1))
        assert held == LeaseRecord("first", "2", 1) == store.read()
        assert store.replace(replace(free, holder="second")) is None
        spec = ApiServer.lease["spec"]
        assert spec["leaseDurationSeconds"] == 30
        assert spec["renewTime"]


def test_an_api_server_that_is_away_is_unavailable(tmp_path: Path) -> None:
    with api_server(tmp_path) as settings:
        store = KubernetesLease(settings)
    with pytest.raises(ServerUnavailable):
        store.read()
