"""RewardControlService on the wire: preloading, pausing and the state of a reward server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import grpc.aio

from attune.api.reward.v1 import control_pb2, control_pb2_grpc
from attune.reward.revisions import RewardRevisions
from attune.reward.scorer import Scorer


class RewardControlServicer(control_pb2_grpc.RewardControlServiceServicer):
    """The control port of a reward server. Nothing here makes weights live: only an alias does. `hint` is called when
    a revision was asked for: its alias may have moved, or is about to."""

    def __init__(self, scorer: Scorer, revisions: RewardRevisions, hint: Callable[[], None]) -> None:
        self._scorer = scorer
        self._revisions = revisions
        self._hint = hint

    async def LoadRevision(
        self, request: control_pb2.LoadRevisionRequest, context: grpc.aio.ServicerContext
    ) -> control_pb2.LoadRevisionResponse:
        load_s = await asyncio.to_thread(self._revisions.preload, request.revision, request.epoch)
        self._hint()
        response = control_pb2.LoadRevisionResponse()
        response.load_duration.FromTimedelta(timedelta(seconds=load_s))
        return response

    async def Pause(
        self, request: control_pb2.PauseRequest, context: grpc.aio.ServicerContext
    ) -> control_pb2.PauseResponse:
        self._scorer.pause(request.reason)
        return control_pb2.PauseResponse()

    async def Resume(
        self, request: control_pb2.ResumeRequest, context: grpc.aio.ServicerContext
    ) -> control_pb2.ResumeResponse:
        self._scorer.resume()
        return control_pb2.ResumeResponse()

    async def GetStatus(
        self, request: control_pb2.GetStatusRequest, context: grpc.aio.ServicerContext
    ) -> control_pb2.GetStatusResponse:
        loaded, refused = self._revisions.loaded, self._revisions.refused
        return control_pb2.GetStatusResponse(
            reward=loaded.model_name,
            live_revision=loaded.live,
            loaded_revisions=loaded.names,
            running_pairs=self._scorer.running_pairs,
            queued_pairs=self._scorer.queued_pairs,
            paused=self._scorer.pause_reason is not None,
            epoch=loaded.epoch,
            refused=refused.to_proto() if refused else None,
            torn_alias_files=self._revisions.torn_alias_files,
        )
