"""Following: changes are told once, errors are counted and survived, and a hint is quick."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from attune.domain.errors import CheckpointRefused, RegistryCorrupt
from attune.domain.revisions import AliasRecord, ModelName
from attune.platform.registry.follow import AliasFollower
from attune.platform.registry.registry import Registry

NEVER_S = 3600.0
DEADLINE_S = 20.0


class Server:
    """What a server does with changes: notes them, or fails as told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.errors: list[Exception] = []
        self.fails: Exception | None = None
        self.changed = asyncio.Event()

    async def on_change(self, record: AliasRecord) -> None:
        self.changed.set()
        if self.fails is not None:
            raise self.fails
        self.told.append((record.alias, record.number))

    def on_error(self, error: Exception) -> None:
        self.errors.append(error)
        self.changed.set()

    async def next(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            await self.changed.wait()
        self.changed.clear()


@contextlib.asynccontextmanager
async def running(follower: AliasFollower) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(follower.run())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def local(tmp_path: Path, model: ModelName, folder: Callable[[str], Path]) -> Registry:
    registry = Registry(tmp_path / "registry")
    epoch = registry.take_epoch([model], "me")
    for number in (1, 2):
        registry.publish(model.revision(number), folder(str(number)), epoch=epoch)
    return registry


def point(registry: Registry, model: ModelName, alias: str, number: int) -> None:
    registry.move_alias(model, alias, number, epoch=registry.newest_epoch(model), actor="me", reason="")


def follow(registry: Registry, model: ModelName, server: Server, poll_interval_s: float) -> AliasFollower:
    return AliasFollower(
        registry,
        model,
        ["stable", "canary"],
        poll_interval_s=poll_interval_s,
        on_change=server.on_change,
        on_error=server.on_error,
    )


async def test_changes_are_told_once(local: Registry, model: ModelName) -> None:
    server = Server()
    follower = follow(local, model, server, NEVER_S)
    await follower.look()
    assert server.told == []
    point(local, model, "stable", 1)
    await follower.look()
    await follower.look()
    point(local, model, "canary", 2)
    point(local, model, "stable", 1)
    local.take_epoch([model], "another")
    await follower.look()
    assert server.told == [("stable", 1), ("canary", 2)]
    point(local, model, "stable", 2)
    point(local, model, "stable", 1)
    await follower.look()
    assert server.told == [("stable", 1), ("canary", 2)]
    assert server.errors == []


async def test_polling_notices_a_move(local: Registry, model: ModelName) -> None:
    server = Server()
    async with running(follow(local, model, server, 0.01)):
        point(local, model, "stable", 2)
        await server.next()
    assert server.told == [("stable", 2)]


async def test_a_hint_looks_at_once(local: Registry, model: ModelName) -> None:
    server = Server()
    follower = follow(local, model, server, NEVER_S)
    point(local, model, "stable", 1)
    async with running(follower):
        await server.next()
        point(local, model, "stable", 2)
        follower.hint()
        await server.next()
    assert server.told == [("stable", 1), ("stable", 2)]


async def test_a_change_that_failed_is_tried_again(local: Registry, model: ModelName) -> None:
    server = Server()
    server.fails = RegistryCorrupt("a file is missing")
    point(local, model, "stable", 1)
    async with running(follow(local, model, server, 0.01)):
        await server.next()
        server.fails = None
        while not server.told:
            await server.next()
    assert server.told == [("stable", 1)]
    assert server.errors
    assert all(isinstance(error, RegistryCorrupt) for error in server.errors)


async def test_one_alias_that_fails_does_not_hold_up_the_other(local: Registry, model: ModelName) -> None:
    server = Server()
    point(local, model, "stable", 1)
    point(local, model, "canary", 2)

    async def on_change(record: AliasRecord) -> None:
        if record.alias == "stable":
            raise CheckpointRefused("not finite")
        await server.on_change(record)

    follower = AliasFollower(
        local,
        model,
        ["stable", "canary"],
        poll_interval_s=NEVER_S,
        on_change=on_change,
        on_error=server.on_error,
    )
    await follower.look()
    assert server.told == [("canary", 2)]
    assert len(server.errors) == 1


async def test_an_unreadable_registry_is_survived(local: Registry, model: ModelName, tmp_path: Path) -> None:
    server = Server()
    point(local, model, "stable", 1)
    unreadable = tmp_path / "registry" / str(model) / "aliases" / "stable" / "9-9.json"
    unreadable.mkdir()
    async with running(follow(local, model, server, 0.01)) as task:
        await server.next()
        assert isinstance(server.errors[0], OSError)
        assert not task.done()
        unreadable.rmdir()
        while not server.told:
            await server.next()
    assert server.told == [("stable", 1)]


async def test_an_error_of_another_kind_ends_the_run(local: Registry, model: ModelName) -> None:
    server = Server()
    server.fails = ZeroDivisionError("a bug")
    point(local, model, "stable", 1)
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(DEADLINE_S):
            await follow(local, model, server, NEVER_S).run()


async def test_failures_slow_the_polling_down_to_a_bound(local: Registry, model: ModelName) -> None:
    server = Server()
    server.fails = OSError("away")
    point(local, model, "stable", 1)
    follower = follow(local, model, server, 1.0)
    pauses_s = []
    for _ in range(40):
        pauses_s.append(follower._pause_s())
        await follower.look()
    assert pauses_s[:4] == [1.0, 2.0, 4.0, 8.0]
    assert pauses_s[-1] == 30.0
    server.fails = None
    await follower.look()
    assert follower._pause_s() == 1.0
