"""Control clients, blocking and asyncio, against small real servers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from attune.api.feedback.v1 import control_pb2 as feedback_pb2
from attune.api.feedback.v1 import control_pb2_grpc as feedback_pb2_grpc
from attune.api.policy.v1 import control_pb2 as policy_pb2
from attune.api.policy.v1 import control_pb2_grpc as policy_pb2_grpc
from attune.api.registry.v1 import registry_pb2
from attune.api.reward.v1 import control_pb2 as reward_pb2
from attune.api.reward.v1 import control_pb2_grpc as reward_pb2_grpc
from attune.api.trainer.v1 import trainer_pb2, trainer_pb2_grpc
from attune.client import control
from attune.domain.errors import EpochSuperseded, FeedbackUnknown, ServerUnavailable
from attune.domain.prompts import Prompt
from google.protobuf.duration_pb2 import Duration
from grpc_status import rpc_status
from unit.client.servers import running_server, status_of

REVISION = "policies/support/revisions/3"


class Steered:
    """A model server: remembers what it was told."""

    def __init__(self, messages: Any) -> None:
        self._messages = messages
        self.pauses: list[str] = []
        self.epoch = 2

    def LoadRevision(self, request: Any, context: Any) -> Any:
        if 0 < request.epoch < self.epoch:
            context.abort_with_status(rpc_status.to_status(status_of(EpochSuperseded("deposed"))))
        return self._messages.LoadRevisionResponse(load_duration=Duration(seconds=1, nanos=500_000_000))

    def Pause(self, request: Any, context: Any) -> Any:
        self.pauses.append(request.reason)
        return self._messages.PauseResponse()

    def Resume(self, request: Any, context: Any) -> Any:
        self.pauses.clear()
        return self._messages.ResumeResponse()

    def GetStatus(self, request: Any, context: Any) -> Any:
        return self._messages.GetStatusResponse(live_revision=REVISION, paused=bool(self.pauses))


class Join(feedback_pb2_grpc.FeedbackControlServiceServicer):
    def GetFeedback(self, request: Any, context: Any) -> Any:
        context.abort_with_status(rpc_status.to_status(status_of(FeedbackUnknown("not read"))))

    def EraseSubject(self, request: Any, context: Any) -> Any:
        return feedback_pb2.EraseSubjectResponse(examples_erased=2, notice=f"{request.app_id}/{request.subject_id}")

    def ReadExamples(self, request: Any, context: Any) -> Any:
        return feedback_pb2.ReadExamplesResponse(
            last_sequence=request.after_sequence, end_sequence=request.page_size, last_removal=request.after_removal
        )

    def ReadPrompts(self, request: Any, context: Any) -> Any:
        prompt = feedback_pb2.UserPrompt(sequence=3, prompt=Prompt.user("Hi").to_proto(), prompt_hash="ab")
        return feedback_pb2.ReadPromptsResponse(prompts=[prompt], last_sequence=3)

    def GetStatus(self, request: Any, context: Any) -> Any:
        return feedback_pb2.GetStatusResponse(end_sequence=12)


class Trainer(trainer_pb2_grpc.TrainerServiceServicer):
    """Five revisions in pages of two; a rollback always fails, once each."""

    def __init__(self) -> None:
        self.rollbacks = 0

    def GetStatus(self, request: Any, context: Any) -> Any:
        return trainer_pb2.GetStatusResponse(phase=trainer_pb2.PHASE_IDLE, step=4)

    def ListRevisions(self, request: Any, context: Any) -> Any:
        start = int(request.page_token or 5)
        numbers = [n for n in (start, start - 1) if n > 0]
        token = str(start - 2) if start > 2 else ""
        found = [registry_pb2.Revision(name=f"{request.model}/revisions/{n}") for n in numbers]
        return trainer_pb2.ListRevisionsResponse(revisions=found, next_page_token=token)

    def Promote(self, request: Any, context: Any) -> Any:
        move = registry_pb2.AliasMove(revision=request.revision, actor=request.actor, reason=request.reason)
        return trainer_pb2.PromoteResponse(move=move)

    def Rollback(self, request: Any, context: Any) -> Any:
        self.rollbacks += 1
        context.abort_with_status(rpc_status.to_status(status_of(ServerUnavailable("lost"))))

    def Pause(self, request: Any, context: Any) -> Any:
        return trainer_pb2.PauseResponse()

    def Resume(self, request: Any, context: Any) -> Any:
        return trainer_pb2.ResumeResponse()

    def Watch(self, request: Any, context: Any) -> Iterator[Any]:
        for step in (1, 2):
            yield trainer_pb2.WatchResponse(step=step)


@pytest.fixture
def trainer() -> Trainer:
    return Trainer()


@pytest.fixture
def address(trainer: Trainer) -> Iterator[str]:
    with running_server(
        (policy_pb2_grpc.add_PolicyControlServiceServicer_to_server, Steered(policy_pb2)),
        (reward_pb2_grpc.add_RewardControlServiceServicer_to_server, Steered(reward_pb2)),
        (feedback_pb2_grpc.add_FeedbackControlServiceServicer_to_server, Join()),
        (trainer_pb2_grpc.add_TrainerServiceServicer_to_server, trainer),
    ) as server:
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


def test_steering_the_trainer(address: str, trainer: Trainer) -> None:
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


async def test_steering_the_trainer_from_asyncio(address: str, trainer: Trainer) -> None:
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
