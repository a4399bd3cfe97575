"""The control port: preloading without going live, pausing, and the state."""

from __future__ import annotations

import asyncio

import pytest
from attune.client import NO_RETRY
from attune.client.control import AsyncPolicyControlClient
from attune.domain.errors import CheckpointTruncated, EpochSuperseded, RevisionUnknown
from support.eventually import eventually
from support.spoilt import truncated
from unit.policy.serving import MODEL, Server


async def test_preload_pause_and_status(server: Server) -> None:
    two = server.shop.publish()
    async with AsyncPolicyControlClient(server.control_address, NO_RETRY) as control:
        assert await control.load_revision(two, epoch=5) > 0
        assert server.hints == [1]  # to look at the aliases, one of which may have moved
        with pytest.raises(EpochSuperseded):
            await control.load_revision(two, epoch=4)
        with pytest.raises(RevisionUnknown):
            await control.load_revision("policies/support/revisions/9")
        status = await control.status()
        assert (status.policy, status.live_revision) == ("policies/support", "policies/support/revisions/1")
        assert list(status.loaded_revisions) == ["policies/support/revisions/1", two]
        assert (status.epoch, status.paused) == (5, False)
        await control.pause("a look at the machine")
        asked = asyncio.create_task(server.client.generate("Where is my order?", completions=3))
        await eventually(lambda: server.engine.queued_completions == 3)
        status = await control.status()
        assert (status.paused, status.queued_completions) == (True, 3)
        await control.resume()
        assert (await asked).generation.revision == "policies/support/revisions/1"


async def test_status_says_what_was_refused_and_what_cannot_be_read(server: Server) -> None:
    bad = server.shop.publish(truncated)
    server.shop.registry.storage.create(f"{MODEL}/aliases/stable/{server.shop.epoch}-9.json", b"{")
    assert server.shop.registry.alias(MODEL, "stable")
    async with AsyncPolicyControlClient(server.control_address, NO_RETRY) as control:
        assert not (await control.status()).HasField("refused")
        with pytest.raises(CheckpointTruncated):
            await control.load_revision(bad)
        status = await control.status()
    assert (status.refused.revision, status.refused.reason) == (bad, "CHECKPOINT_TRUNCATED")
    assert (status.live_revision, status.torn_alias_files) == ("policies/support/revisions/1", 1)
