"""Clients of the control ports: for the trainer, the join and the command line, not for apps.

Each service has a blocking client and an asyncio one with the same methods. `address` is the control port's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator

from attune.api.feedback.v1 import control_pb2 as feedback_pb2
from attune.api.policy.v1 import control_pb2 as policy_pb2
from attune.api.registry.v1 import registry_pb2
from attune.api.reward.v1 import control_pb2 as reward_pb2
from attune.api.trainer.v1 import trainer_pb2
from attune.client import control_requests as requests
from attune.client.calls import AsyncConnection, Connection
from attune.client.control_requests import ExamplesPage, FeedbackReport, ModelServer, PromptsPage, Removal, UserPrompt

__all__ = [
    "AsyncFeedbackControlClient",
    "AsyncPolicyControlClient",
    "AsyncRewardControlClient",
    "AsyncTrainerClient",
    "ExamplesPage",
    "FeedbackControlClient",
    "FeedbackReport",
    "PolicyControlClient",
    "PromptsPage",
    "Removal",
    "RewardControlClient",
    "TrainerClient",
    "UserPrompt",
]


class _ModelControlClient(Connection):
    _server: ModelServer

    def load_revision(self, revision: str, *, epoch: int = 0, timeout_s: float = requests.LOAD_TIMEOUT_S) -> float:
        """Preloads and verifies a revision; seconds it took, 0.0 if it was loaded. `epoch` 0: a person asks."""
        return self.call(self._server.load_revision(revision, epoch, timeout_s))

    def pause(self, reason: str) -> None:
        """Holds the queue; what runs finishes."""
        self.call(self._server.pause(reason))

    def resume(self) -> None:
        """Ends a pause."""
        self.call(self._server.resume())


class PolicyControlClient(_ModelControlClient):
    """PolicyControlService, blocking."""

    _server = requests.POLICY

    def status(self, *, timeout_s: float = requests.CONTROL_TIMEOUT_S) -> policy_pb2.GetStatusResponse:
        return self.call(self._server.status(timeout_s))


class RewardControlClient(_ModelControlClient):
    """RewardControlService, blocking."""

    _server = requests.REWARD

    def status(self, *, timeout_s: float = requests.CONTROL_TIMEOUT_S) -> reward_pb2.GetStatusResponse:
        return self.call(self._server.status(timeout_s))


class FeedbackControlClient(Connection):
    """FeedbackControlService of the join, blocking."""

    def read_examples(self, after_sequence: int = 0, *, page_size: int = 0, after_removal: int = 0) -> ExamplesPage:
        """Training examples after a sequence number, and removals after a removal id."""
        return self.call(requests.read_examples(after_sequence, page_size, after_removal))

    def read_prompts(self, after_sequence: int = 0, *, page_size: int = 0) -> PromptsPage:
        """Live user prompts after a sequence number."""
        return self.call(requests.read_prompts(after_sequence, page_size))

    def get_feedback(self, app_id: str, event_id: str) -> FeedbackReport:
        """Where an event stands, and why; FeedbackUnknown until the join has read it."""
        return self.call(requests.get_feedback(app_id, event_id))

    def erase_subject(self, app_id: str, subject_id: str) -> feedback_pb2.EraseSubjectResponse:
        """Deletes a person's rows; the reply says what cannot be undone. Never tried again by itself."""
        return self.call(requests.erase_subject(app_id, subject_id))

    def status(self, *, timeout_s: float = requests.CONTROL_TIMEOUT_S) -> feedback_pb2.GetStatusResponse:
        return self.call(requests.join_status(timeout_s))


class TrainerClient(Connection):
    """TrainerService, blocking."""

    def status(self, *, timeout_s: float = requests.CONTROL_TIMEOUT_S) -> trainer_pb2.GetStatusResponse:
        return self.call(requests.trainer_status(timeout_s))

    def list_revisions(self, model: str = "", *, page_size: int = 0) -> Generator[registry_pb2.Revision, None, None]:
        """All revisions of "policies/<name>" or "rewards/<name>" (empty: the trainer's policy), newest first."""
        page_token = ""
        while True:
            page = self.call(requests.list_revisions(model, page_size, page_token))
            yield from page.revisions
            page_token = page.next_page_token
            if not page_token:
                return

    def promote(self, revision: str, *, actor: str, reason: str = "") -> registry_pb2.AliasMove:
        """Points stable at a revision, given by full name or number."""
        return self.call(requests.promote(revision, actor, reason))

    def rollback(self, *, actor: str, reason: str = "", model: str = "") -> registry_pb2.AliasMove:
        """Points stable back at the revision before. Never tried again by itself: twice would go back twice."""
        return self.call(requests.rollback(actor, reason, model))

    def pause(self, reason: str) -> None:
        """Stops before the next step."""
        self.call(requests.pause_trainer(reason))

    def resume(self) -> None:
        """Goes on."""
        self.call(requests.resume_trainer())

    def watch(self, *, timeout_s: float = requests.WATCH_TIMEOUT_S) -> Generator[trainer_pb2.WatchResponse, None, None]:
        """Steps, promotions and rejections from now on; closing the generator ends the call."""
        return self.stream(requests.watch(timeout_s))


class _AsyncModelControlClient(AsyncConnection):
    _server: ModelServer

    async def load_revision(
        self, revision: str, *, epoch: int = 0, timeout_s: float = requests.LOAD_TIMEOUT_S
    ) -> float:
        """Preloads and verifies a revision; seconds it took, 0.0 if it was loaded. `epoch` 0: a person asks."""
        return await self.call(self._server.load_revision(revision, epoch, timeout_s))

    async def pause(self, reason: str) -> None:
        """Holds the queue; what runs finishes."""
        await self.call(self._server.pause(reason))

    async def resume(self) -> None:
        """Ends a pause."""
        await self.call(self._server.resume())


class AsyncPolicyControlClient(_AsyncModelControlClient):
    """PolicyControlService, asyncio."""

    _server = requests.POLICY

    async def status(self, *, timeout_s: float = requests.CONTROL_TIMEOUT_S) -> policy_pb2.GetStatusResponse:
        return await self.call(self._server.status(timeout_s))


class AsyncRewardControlClient(_AsyncModelControlClient):
    """RewardControlService, asyncio."""

    _server = requests.REWARD

    async def status(self, *, timeout_s: float = requests.CONTROL_TIMEOUT_S) -> reward_pb2.GetStatusResponse:
        return await self.call(self._server.status(timeout_s))


class AsyncFeedbackControlClient(AsyncConnection):
    """FeedbackControlService of the join, asyncio."""

    async def read_examples(
        self, after_sequence: int = 0, *, page_size: int = 0, after_removal: int = 0
    ) -> ExamplesPage:
        """Training examples after a sequence number, and removals after a removal id."""
        return await self.call(requests.read_examples(after_sequence, page_size, after_removal))

    async def read_prompts(self, after_sequence: int = 0, *, page_size: int = 0) -> PromptsPage:
        """Live user prompts after a sequence number."""
        return await self.call(requests.read_prompts(after_sequence, page_size))

    async def get_feedback(self, app_id: str, event_id: str) -> FeedbackReport:
        """Where an event stands, and why; FeedbackUnknown until the join has read it."""
        return await self.call(requests.get_feedback(app_id, event_id))

    async def erase_subject(self, app_id: str, subject_id: str) -> feedback_pb2.EraseSubjectResponse:
        """Deletes a person's rows; the reply says what cannot be undone. Never tried again by itself."""
        return await self.call(requests.erase_subject(app_id, subject_id))

    async def status(self, *, timeout_s: float = requests.CONTROL_TIMEOUT_S) -> feedback_pb2.GetStatusResponse:
        return await self.call(requests.join_status(timeout_s))


class AsyncTrainerClient(AsyncConnection):
    """TrainerService, asyncio."""

    async def status(self, *, timeout_s: float = requests.CONTROL_TIMEOUT_S) -> trainer_pb2.GetStatusResponse:
        return await self.call(requests.trainer_status(timeout_s))

    async def list_revisions(
        self, model: str = "", *, page_size: int = 0
    ) -> AsyncGenerator[registry_pb2.Revision, None]:
        """All revisions of "policies/<name>" or "rewards/<name>" (empty: the trainer's policy), newest first."""
        page_token = ""
        while True:
            page = await self.call(requests.list_revisions(model, page_size, page_token))
            for revision in page.revisions:
                yield revision
            page_token = page.next_page_token
            if not page_token:
                return

    async def promote(self, revision: str, *, actor: str, reason: str = "") -> registry_pb2.AliasMove:
        """Points stable at a revision, given by full name or number."""
        return await self.call(requests.promote(revision, actor, reason))

    async def rollback(self, *, actor: str, reason: str = "", model: str = "") -> registry_pb2.AliasMove:
        """Points stable back at the revision before. Never tried again by itself: twice would go back twice."""
        return await self.call(requests.rollback(actor, reason, model))

    async def pause(self, reason: str) -> None:
        """Stops before the next step."""
        await self.call(requests.pause_trainer(reason))

    async def resume(self) -> None:
        """Goes on."""
        await self.call(requests.resume_trainer())

    def watch(self, *, timeout_s: float = requests.WATCH_TIMEOUT_S) -> AsyncGenerator[trainer_pb2.WatchResponse, None]:
        """Steps, promotions and rejections from now on; close the generator (`aclosing`) to end the call."""
        return self.stream(requests.watch(timeout_s))
