"""PolicyControlService on the wire: preloading, pausing and the state of a policy server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import grpc.aio

from attune.api.policy.v1 import control_pb2, control_pb2_grpc
from attune.policy.engines import PolicyEngine
from attune.policy.revisions import PolicyRevisions


class PolicyControlServicer(control_pb2_grpc.PolicyControlServiceServicer):
    """The control port of a policy server. Nothing here makes weights live: only an alias does. `hint` is called when
    a revision was asked for: its alias may have moved, or is about to."""

    def __init__(self, engine: PolicyEngine, revisions: PolicyRevisions, hint: Callable[[], None]) -> None:
        self._engine = engine
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
        self._engine.pause(request.reason)
        return control_pb2.PauseResponse()

    async def Resume(
        self, request: control_pb2.ResumeRequest, context: grpc.aio.ServicerContext
    ) -> control_pb2.ResumeResponse:
        self._engine.resume()
        return control_pb2.ResumeResponse()

    async def GetStatus(
        self, request: control_pb2.GetStatusRequest, context: grpc.aio.ServicerContext
    ) -> control_pb2.GetStatusResponse:
        loaded, refused = self._revisions.loaded, self._revisions.refused
        return control_pb2.GetStatusResponse(
            policy=loaded.model_name,
            live_revision=loaded.live,
            loaded_revisions=loaded.names,
            running_completions=self._engine.running_completions,
            queued_completions=self._engine.queued_completions,
            paused=self._engine.pause_reason is not None,
            epoch=loaded.epoch,
            refused=refused.to_proto() if refused else None,
            torn_alias_files=self._revisions.torn_alias_files,
        )
