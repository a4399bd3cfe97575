"""Small control services: real gRPC, made-up state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from attune.api.feedback.v1 import control_pb2 as feedback_pb2
from attune.api.feedback.v1 import control_pb2_grpc as feedback_pb2_grpc
from attune.api.policy.v1 import control_pb2 as policy_pb2
from attune.api.policy.v1 import control_pb2_grpc as policy_pb2_grpc
from attune.api.registry.v1 import registry_pb2
from attune.api.reward.v1 import control_pb2 as reward_pb2
from attune.api.reward.v1 import control_pb2_grpc as reward_pb2_grpc
from attune.api.trainer.v1 import trainer_pb2, trainer_pb2_grpc
from attune.domain.errors import DeadlineExceeded, EpochSuperseded, FeedbackUnknown, ServerUnavailable
from attune.domain.prompts import Prompt
from attune.domain.status import to_status
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_status import rpc_status
from unit.client.servers import SmallServer, running_server

REVISION = "policies/support/revisions/3"


class SmallModelServer:
    """A model server: remembers what it was told."""

    def __init__(
        self, messages: Any, live_revision: str = REVISION, refused: registry_pb2.RefusedRevision | None = None
    ) -> None:
        self._messages, self.live_revision, self._refused = messages, live_revision, refused
        self.pauses: list[str] = []
        self.epoch = 2
        self.left_s: list[float] = []
        """Seconds that each load was given."""

    def LoadRevision(self, request: Any, context: Any) -> Any:
        self.left_s.append(context.time_remaining())
        if 0 < request.epoch < self.epoch:
            context.abort_with_status(rpc_status.to_status(to_status(EpochSuperseded("deposed"))))
        return self._messages.LoadRevisionResponse(load_duration=Duration(seconds=1, nanos=500_000_000))

    def Pause(self, request: Any, context: Any) -> Any:
        self.pauses.append(request.reason)
        return self._messages.PauseResponse()

    def Resume(self, request: Any, context: Any) -> Any:
        self.pauses.clear()
        return self._messages.ResumeResponse()

    def GetStatus(self, request: Any, context: Any) -> Any:
        return self._messages.GetStatusResponse(
            live_revision=self.live_revision, paused=bool(self.pauses), refused=self._refused
        )


class SmallJoin(feedback_pb2_grpc.FeedbackControlServiceServicer):
    def GetFeedback(self, request: Any, context: Any) -> Any:
        context.abort_with_status(rpc_status.to_status(to_status(FeedbackUnknown("not read"))))

    def EraseSubject(self, request: Any, context: Any) -> Any:
        return feedback_pb2.EraseSubjectResponse(
            examples_erased=2,
            notice=f"{request.app_id}/{request.subject_id}",
            log_empty_time=Timestamp(seconds=1_767_312_000),
        )

    def ReadExamples(self, request: Any, context: Any) -> Any:
        return feedback_pb2.ReadExamplesResponse(
            last_sequence=request.after_sequence, end_sequence=request.page_size, last_removal=request.after_removal
        )

    def ReadPrompts(self, request: Any, context: Any) -> Any:
        prompt = feedback_pb2.UserPrompt(sequence=3, prompt=Prompt.user("Hi").to_proto(), prompt_hash="ab")
        return feedback_pb2.ReadPromptsResponse(prompts=[prompt], last_sequence=3)

    def GetStatus(self, request: Any, context: Any) -> Any:
        joined = feedback_pb2.StateCount(state=feedback_pb2.FEEDBACK_STATE_JOINED, events=11)
        topic = feedback_pb2.TopicProgress(topic="attune.feedback", offset=9, lag_records=3)
        return feedback_pb2.GetStatusResponse(end_sequence=12, states=[joined], topics=[topic])


class SmallTrainer(trainer_pb2_grpc.TrainerServiceServicer):
    """Five revisions in pages of two; a rollback always fails, once each."""

    def __init__(self) -> None:
        self.rollbacks = 0
        self.pauses: list[str] = []
        self.watches_cut = 0
        """How many of the next watches end at their deadline."""

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
        context.abort_with_status(rpc_status.to_status(to_status(ServerUnavailable("lost"))))

    def Pause(self, request: Any, context: Any) -> Any:
        self.pauses.append(request.reason)
        return trainer_pb2.PauseResponse()

    def Resume(self, request: Any, context: Any) -> Any:
        self.pauses.clear()
        return trainer_pb2.ResumeResponse()

    def Watch(self, request: Any, context: Any) -> Iterator[Any]:
        if self.watches_cut:
            self.watches_cut -= 1
            context.abort_with_status(rpc_status.to_status(to_status(DeadlineExceeded("an hour has passed"))))
        yield trainer_pb2.WatchResponse(
            step=1,
            event=trainer_pb2.TRAINER_EVENT_POLICY_PROMOTED,
            revision="policies/support/revisions/2",
            metrics={"win_rate": 0.625, "ratio_max": 1.0},
        )
        yield trainer_pb2.WatchResponse(
            step=2,
            event=trainer_pb2.TRAINER_EVENT_POLICY_REJECTED,
            revision="policies/support/revisions/3",
            reason="KL exceeded",
            metrics={"win_rate": 0.25},
        )


@contextmanager
def running_control_server(
    trainer: SmallTrainer | None = None,
    policy: SmallModelServer | None = None,
    join: SmallJoin | None = None,
) -> Iterator[SmallServer]:
    """All control services on one port."""
    with running_server(
        (policy_pb2_grpc.add_PolicyControlServiceServicer_to_server, policy or SmallModelServer(policy_pb2)),
        (reward_pb2_grpc.add_RewardControlServiceServicer_to_server, SmallModelServer(reward_pb2)),
        (feedback_pb2_grpc.add_FeedbackControlServiceServicer_to_server, join or SmallJoin()),
        (trainer_pb2_grpc.add_TrainerServiceServicer_to_server, trainer or SmallTrainer()),
    ) as server:
        yield server
