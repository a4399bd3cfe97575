"""Control clients, blocking and asyncio, against small real servers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from attune.client import control
from attune.domain.errors import EpochSuperseded, FeedbackUnknown, ServerUnavailable
from attune.domain.prompts import Prompt
from unit.client.control_servers import REVISION, SmallTrainer, running_control_server


@pytest.fixture
def trainer() -> SmallTrainer:
    return SmallTrainer()


@pytest.fixture
def address(trainer: SmallTrainer) -> Iterator[str]:
    with running_control_server(trainer) as server:
        yield server.address


@pytest.mark.parametrize("cls", [control.PolicyControlClient, control.RewardControlClient])
def test_steering_a_model_server(cls: Any, address: str) -> None:
    with cls(address) as client:
        assert client.load_revision(REVISION, epoch=2) == 1.5
        with pytest.raises(EpochSuperseded):
            client.load_revision(REVISION, epoch=1)
        client.pause("maintenance")
        assert client.status().paused
        client.resume()
        assert client.status().live_revision == REVISION
        assert not client.status().paused


@pytest.mark.parametrize("cls", [control.AsyncPolicyControlClient, control.AsyncRewardControlClient])
async def test_steering_a_model_server_from_asyncio(cls: Any, address: str) -> None:
    async with cls(address) as client:
        assert await client.load_revision(REVISION, epoch=2) == 1.5
        await client.pause("maintenance")
        assert (await client.status()).paused
        await client.resume()


def test_reading_and_erasing_joined_data(address: str) -> None:
    with control.FeedbackControlClient(address) as client:
        page = client.read_examples(7, page_size=10, after_removal=2)
        assert (page.last_sequence, page.end_sequence, page.last_removal) == (7, 10, 2)
        (prompt,) = client.read_prompts().prompts
        assert prompt == control.UserPrompt(3, Prompt.user("Hi"), "ab")
        with pytest.raises(FeedbackUnknown):
            client.get_feedback("shop", "x")
        assert client.erase_subject("shop", "ana").notice == "shop/ana"
        assert client.status().end_sequence == 12


async def test_reading_joined_data_from_asyncio(address: str) -> None:
    async with control.AsyncFeedbackControlClient(address) as client:
        assert (await client.read_examples(7)).last_sequence == 7
        assert (await client.read_prompts(1)).last_sequence == 3
        with pytest.raises(FeedbackUnknown):
            await client.get_feedback("shop", "x")
        assert (await client.erase_subject("shop", "ana")).examples_erased == 2
        assert (await client.status()).end_sequence == 12


def test_steering_the_trainer(address: str, trainer: SmallTrainer) -> None:
    with control.TrainerClient(address) as client:
        assert client.status().step == 4
        names = [revision.name for revision in client.list_revisions("policies/support", page_size=2)]
        assert names == [f"policies/support/revisions/{n}" for n in (5, 4, 3, 2, 1)]
        assert client.promote("7", actor="ana", reason="better").revision == "7"
        client.pause("look")
        client.resume()
        assert [event.step for event in client.watch()] == [1, 2]
        with pytest.raises(ServerUnavailable):
            client.rollback(actor="ana")
    assert trainer.rollbacks == 1


async def test_steering_the_trainer_from_asyncio(address: str, trainer: SmallTrainer) -> None:
    async with control.AsyncTrainerClient(address) as client:
        assert (await client.status()).step == 4
        assert len([r async for r in client.list_revisions("rewards/support")]) == 5
        assert (await client.promote("7", actor="ana")).actor == "ana"
        await client.pause("look")
        await client.resume()
        assert [event.step async for event in client.watch()] == [1, 2]
        with pytest.raises(ServerUnavailable):
            await client.rollback(actor="ana")
    assert trainer.rollbacks == 1


@pytest.mark.parametrize(
    "name", ["PolicyControlClient", "RewardControlClient", "FeedbackControlClient", "TrainerClient"]
)
def test_both_kinds_have_the_same_methods(name: str) -> None:
    def methods(cls: type) -> dict[str, list[str]]:
        found = inspect.getmembers(cls, inspect.isfunction)
        return {m: list(inspect.signature(f).parameters) for m, f in found if not m.startswith("_") and m != "exchange"}

    assert methods(getattr(control, name)) == methods(getattr(control, f"Async{name}"))
