"""Calls to control ports, made of plain arguments; nothing is sent here.

Results are domain types where there are some, and the contract's own messages for reports that are only shown.
What would not be the same if done twice (a rollback, an erasure's report) is never tried again.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from attune.api.feedback.v1 import control_pb2 as feedback_pb2
from attune.api.feedback.v1 import control_pb2_grpc as feedback_pb2_grpc
from attune.api.policy.v1 import control_pb2 as policy_pb2
from attune.api.policy.v1 import control_pb2_grpc as policy_pb2_grpc
from attune.api.registry.v1 import registry_pb2
from attune.api.reward.v1 import control_pb2 as reward_pb2
from attune.api.reward.v1 import control_pb2_grpc as reward_pb2_grpc
from attune.api.trainer.v1 import trainer_pb2, trainer_pb2_grpc
from attune.client.calls import Call
from attune.domain.examples import Example
from attune.domain.feedback import FeedbackEvent, FeedbackState
from attune.domain.prompts import Prompt
from attune.domain.times import from_timestamp

LOAD_TIMEOUT_S = 600.0
CONTROL_TIMEOUT_S = 30.0
ERASE_TIMEOUT_S = 300.0
WATCH_TIMEOUT_S = 86_400.0


@dataclass(frozen=True)
class Removal:
    """An example that no longer counts; `reason` is SUPERSEDED or ERASED."""

    id: int
    sequence: int
    reason: str


@dataclass(frozen=True)
class ExamplesPage:
    """Examples in the order of commits, and removals. Read on after `last_sequence` and `last_removal`."""

    examples: tuple[Example, ...]
    removals: tuple[Removal, ...]
    last_sequence: int
    end_sequence: int
    last_removal: int


@dataclass(frozen=True)
class UserPrompt:
    """A live prompt of the reservoir."""

    sequence: int
    prompt: Prompt
    prompt_hash: str


@dataclass(frozen=True)
class PromptsPage:
    """Prompts in the order of arrival. Read on after `last_sequence`."""

    prompts: tuple[UserPrompt, ...]
    last_sequence: int


@dataclass(frozen=True)
class FeedbackReport:
    """Where an event stands, and why; `example_sequence` 0: it became none; `event` is None once erased."""

    state: FeedbackState
    reason: str
    event: FeedbackEvent | None
    accept_time: float
    example_sequence: int


@dataclass(frozen=True)
class ModelServer:
    """What the control services of policy and reward have in common: the same calls, each in its own package."""

    messages: ModuleType
    stub: Any

    def load_revision(self, revision: str, epoch: int, timeout_s: float) -> Call[float]:
        request = self.messages.LoadRevisionRequest(revision=revision, epoch=epoch)
        return Call(lambda channel: self.stub(channel).LoadRevision, lambda: request, _load_s, timeout_s)

    def pause(self, reason: str) -> Call[None]:
        request = self.messages.PauseRequest(reason=reason)
        return Call(lambda channel: self.stub(channel).Pause, lambda: request, _nothing, CONTROL_TIMEOUT_S)

    def resume(self) -> Call[None]:
        return Call(lambda channel: self.stub(channel).Resume, self.messages.ResumeRequest, _nothing, CONTROL_TIMEOUT_S)

    def status(self, timeout_s: float) -> Call[Any]:
        return Call(lambda channel: self.stub(channel).GetStatus, self.messages.GetStatusRequest, _as_is, timeout_s)


POLICY = ModelServer(policy_pb2, policy_pb2_grpc.PolicyControlServiceStub)
REWARD = ModelServer(reward_pb2, reward_pb2_grpc.RewardControlServiceStub)


def read_examples(after_sequence: int, page_size: int, after_removal: int) -> Call[ExamplesPage]:
    request = feedback_pb2.ReadExamplesRequest(
        after_sequence=after_sequence, page_size=page_size, after_removal=after_removal
    )
    return Call(lambda channel: _feedback(channel).ReadExamples, lambda: request, _examples_page, CONTROL_TIMEOUT_S)


def read_prompts(after_sequence: int, page_size: int) -> Call[PromptsPage]:
    request = feedback_pb2.ReadPromptsRequest(after_sequence=after_sequence, page_size=page_size)
    return Call(lambda channel: _feedback(channel).ReadPrompts, lambda: request, _prompts_page, CONTROL_TIMEOUT_S)


def get_feedback(app_id: str, event_id: str) -> Call[FeedbackReport]:
    request = feedback_pb2.GetFeedbackRequest(app_id=app_id, event_id=event_id)
    return Call(lambda channel: _feedback(channel).GetFeedback, lambda: request, _feedback_report, CONTROL_TIMEOUT_S)


def erase_subject(app_id: str, subject_id: str) -> Call[feedback_pb2.EraseSubjectResponse]:
    request = feedback_pb2.EraseSubjectRequest(app_id=app_id, subject_id=subject_id)
    return Call(lambda channel: _feedback(channel).EraseSubject, lambda: request, _as_is, ERASE_TIMEOUT_S, False)


def join_status(timeout_s: float) -> Call[feedback_pb2.GetStatusResponse]:
    return Call(lambda channel: _feedback(channel).GetStatus, feedback_pb2.GetStatusRequest, _as_is, timeout_s)


def trainer_status(timeout_s: float) -> Call[trainer_pb2.GetStatusResponse]:
    return Call(lambda channel: _trainer(channel).GetStatus, trainer_pb2.GetStatusRequest, _as_is, timeout_s)


def list_revisions(model: str, page_size: int, page_token: str) -> Call[trainer_pb2.ListRevisionsResponse]:
    request = trainer_pb2.ListRevisionsRequest(model=model, page_size=page_size, page_token=page_token)
    return Call(lambda channel: _trainer(channel).ListRevisions, lambda: request, _as_is, CONTROL_TIMEOUT_S)


def promote(revision: str, actor: str, reason: str) -> Call[registry_pb2.AliasMove]:
    request = trainer_pb2.PromoteRequest(revision=revision, actor=actor, reason=reason)
    return Call(lambda channel: _trainer(channel).Promote, lambda: request, _move, CONTROL_TIMEOUT_S, False)


def rollback(actor: str, reason: str, model: str) -> Call[registry_pb2.AliasMove]:
    request = trainer_pb2.RollbackRequest(actor=actor, reason=reason, model=model)
    return Call(lambda channel: _trainer(channel).Rollback, lambda: request, _move, CONTROL_TIMEOUT_S, False)


def pause_trainer(reason: str) -> Call[None]:
    request = trainer_pb2.PauseRequest(reason=reason)
    return Call(lambda channel: _trainer(channel).Pause, lambda: request, _nothing, CONTROL_TIMEOUT_S)


def resume_trainer() -> Call[None]:
    return Call(lambda channel: _trainer(channel).Resume, trainer_pb2.ResumeRequest, _nothing, CONTROL_TIMEOUT_S)


def watch(timeout_s: float) -> Call[trainer_pb2.WatchResponse]:
    return Call(lambda channel: _trainer(channel).Watch, trainer_pb2.WatchRequest, _as_is, timeout_s)


def _feedback(channel: Any) -> Any:
    return feedback_pb2_grpc.FeedbackControlServiceStub(channel)


def _trainer(channel: Any) -> Any:
    return trainer_pb2_grpc.TrainerServiceStub(channel)


def _as_is(response: Any) -> Any:
    return response


def _nothing(_: Any) -> None:
    return None


def _move(response: Any) -> registry_pb2.AliasMove:
    return response.move


def _load_s(response: Any) -> float:
    return response.load_duration.ToTimedelta().total_seconds()


def _examples_page(response: feedback_pb2.ReadExamplesResponse) -> ExamplesPage:
    return ExamplesPage(
        examples=tuple(Example.from_proto(e) for e in response.examples),
        removals=tuple(_removal(r) for r in response.removals),
        last_sequence=response.last_sequence,
        end_sequence=response.end_sequence,
        last_removal=response.last_removal,
    )


def _removal(proto: feedback_pb2.ExampleRemoval) -> Removal:
    reason = feedback_pb2.RemovalReason.Name(proto.reason)
    return Removal(proto.id, proto.sequence, reason.removeprefix("REMOVAL_REASON_"))


def _prompts_page(response: feedback_pb2.ReadPromptsResponse) -> PromptsPage:
    prompts = [UserPrompt(p.sequence, Prompt.from_proto(p.prompt), p.prompt_hash) for p in response.prompts]
    return PromptsPage(tuple(prompts), response.last_sequence)


def _feedback_report(response: feedback_pb2.GetFeedbackResponse) -> FeedbackReport:
    return FeedbackReport(
        state=FeedbackState(response.state),
        reason=response.reason,
        event=FeedbackEvent.from_proto(response.event) if response.HasField("event") else None,
        accept_time=from_timestamp(response.accept_time),
        example_sequence=response.example_sequence,
    )
