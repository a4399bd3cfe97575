"""TrainerService: wire to loop and registry, and back. No logic of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from attune.api.registry.v1 import registry_pb2
from attune.api.trainer.v1 import trainer_pb2, trainer_pb2_grpc
from attune.domain.errors import InvalidInput, NoRevision
from attune.domain.revisions import AliasRecord, ModelName, RevisionName
from attune.domain.times import to_timestamp
from attune.platform.registry.registry import Registry
from attune.trainer.loop import Loop

PHASES = {
    "waiting_for_revision": trainer_pb2.PHASE_WAITING_FOR_REVISION,
    "idle": trainer_pb2.PHASE_IDLE,
    "reward_update": trainer_pb2.PHASE_REWARD_UPDATE,
    "rollout": trainer_pb2.PHASE_ROLLOUT,
    "policy_update": trainer_pb2.PHASE_POLICY_UPDATE,
    "gate": trainer_pb2.PHASE_GATE,
    "paused": trainer_pb2.PHASE_PAUSED,
    "stopped": trainer_pb2.PHASE_STOPPED,
}


class TrainerServicer(trainer_pb2_grpc.TrainerServiceServicer):
    """Serves before training can start: `loop` is set once the first revisions are there, which `waits` tells of."""

    def __init__(self, registry: Registry, policy: ModelName, reward: ModelName) -> None:
        self._registry = registry
        self._policy, self._reward = policy, reward
        self.loop: Loop | None = None
        self._missing = "looks for first revisions"

    def waits(self, missing: str) -> None:
        """What the status says until training begins."""
        self._missing = missing

    async def GetStatus(self, request: trainer_pb2.GetStatusRequest, context: Any) -> trainer_pb2.GetStatusResponse:
        if self.loop is None:
            return trainer_pb2.GetStatusResponse(phase=trainer_pb2.PHASE_WAITING_FOR_REVISION, reason=self._missing)
        w = self.loop.workspace
        facts = w.progress.facts
        return trainer_pb2.GetStatusResponse(
            phase=PHASES[w.phase],
            reason=w.stop_reason or self.loop.reason,
            step=w.progress.step,
            epoch=w.epoch,
            policy_revision=str(w.revision("policies", facts["policy"])),
            reward_revision=str(w.revision("rewards", facts["reward"])) if facts["reward"] else "",
            example_sequence=facts["reward_cursor"],
            metrics=w.figures,
        )

    async def ListRevisions(
        self, request: trainer_pb2.ListRevisionsRequest, context: Any
    ) -> trainer_pb2.ListRevisionsResponse:
        model = ModelName.parse(request.model) if request.model else self._policy
        size = request.page_size or 100
        if size > 1000:
            raise InvalidInput.field("page_size", "must be at most 1000")
        if request.page_token and not request.page_token.isdigit():
            raise InvalidInput.field("page_token", "must come from the page before")
        numbers = sorted(self._registry.revisions(model), reverse=True)
        rest = [n for n in numbers if not request.page_token or n < int(request.page_token)]
        page = rest[:size]
        aliases = self._registry.aliases(model)
        return trainer_pb2.ListRevisionsResponse(
            revisions=[self._revision(model.revision(n), aliases) for n in page],
            next_page_token=str(page[-1]) if len(rest) > size else "",
        )

    async def Promote(self, request: trainer_pb2.PromoteRequest, context: Any) -> trainer_pb2.PromoteResponse:
        model = ModelName.parse(request.revision.partition("/revisions/")[0]) if "/" in request.revision else None
        model = self._moved(model, "revision")
        name = self._registry.resolve(model, request.revision)
        move = await self._running().promote(name, request.actor, request.reason)
        return trainer_pb2.PromoteResponse(move=_move(model, move))

    async def Rollback(self, request: trainer_pb2.RollbackRequest, context: Any) -> trainer_pb2.RollbackResponse:
        model = self._moved(ModelName.parse(request.model) if request.model else None, "model")
        move = await self._running().roll_back(model.kind, request.actor, request.reason)
        return trainer_pb2.RollbackResponse(move=_move(model, move))

    async def Pause(self, request: trainer_pb2.PauseRequest, context: Any) -> trainer_pb2.PauseResponse:
        self._running().pause(request.reason)
        return trainer_pb2.PauseResponse()

    async def Resume(self, request: trainer_pb2.ResumeRequest, context: Any) -> trainer_pb2.ResumeResponse:
        self._running().resume()
        return trainer_pb2.ResumeResponse()

    async def Watch(
        self, request: trainer_pb2.WatchRequest, context: Any
    ) -> AsyncGenerator[trainer_pb2.WatchResponse, None]:
        async for happening in self._running().workspace.watchers.watch():
            yield happening.to_proto()

    def _moved(self, model: ModelName | None, field: str) -> ModelName:
        """The model, the policy if none is named; InvalidInput if this trainer does not move it."""
        if model is None:
            return self._policy
        if model not in (self._policy, self._reward):
            raise InvalidInput.field(field, f"this trainer moves {self._policy} and {self._reward}")
        return model

    def _running(self) -> Loop:
        if self.loop is None:
            raise NoRevision(f"training has not begun: {self._missing}")
        return self.loop

    def _revision(self, name: RevisionName, aliases: dict[str, AliasRecord]) -> registry_pb2.Revision:
        manifest = self._registry.manifest(name)
        return registry_pb2.Revision(
            name=str(name),
            parent=str(name.model_name.revision(manifest.parent)) if manifest.parent else "",
            reward_revision=str(manifest.reward_revision or ""),
            example_sequence=manifest.example_sequence,
            epoch=manifest.epoch,
            create_time=to_timestamp(manifest.create_time),
            metrics=manifest.metrics,
            aliases=[alias for alias, head in aliases.items() if head.number == name.number],
            pruned=self._registry.is_pruned(name),
        )


def _move(model: ModelName, move: AliasRecord) -> registry_pb2.AliasMove:
    return registry_pb2.AliasMove(
        alias=move.alias,
        revision=str(model.revision(move.number)),
        previous_revision=str(model.revision(move.previous)) if move.previous else "",
        epoch=move.epoch,
        sequence=move.sequence,
        time=to_timestamp(move.time),
        actor=move.actor,
        reason=move.reason,
    )
