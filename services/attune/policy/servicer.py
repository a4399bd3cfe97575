"""PolicyService on the wire: requests are read into domain types, handed to the writer, and its answer written back.

A caller with a key speaks for the key's app, and need not name it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc.aio

from attune.api.policy.v1 import policy_pb2, policy_pb2_grpc
from attune.domain.generations import GenerateRequest, Sampling
from attune.platform.rpc.interceptors import caller
from attune.policy.writer import Delta, Writer, Written


class PolicyServicer(policy_pb2_grpc.PolicyServiceServicer):
    """The app port of a policy server. Errors rise; the interceptor turns them into statuses."""

    def __init__(self, writer: Writer, defaults: Sampling) -> None:
        self._writer = writer
        self._defaults = defaults

    async def Generate(
        self, request: policy_pb2.GenerateRequest, context: grpc.aio.ServicerContext
    ) -> policy_pb2.GenerateResponse:
        asked = self._asked(request)
        response = policy_pb2.GenerateResponse()
        async with aclosing(self._writer.write(asked, is_streaming=False)) as steps:
            async for step in steps:
                if isinstance(step, Written):
                    response = _response(step)
        return response

    async def GenerateStream(
        self, request: policy_pb2.GenerateStreamRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[policy_pb2.GenerateStreamResponse]:
        asked = self._asked(request.request)
        async with aclosing(self._writer.write(asked, is_streaming=True)) as steps:
            async for step in steps:
                if isinstance(step, Written):
                    yield policy_pb2.GenerateStreamResponse(generation_id=step.generation.id, final=_response(step))
                else:
                    yield policy_pb2.GenerateStreamResponse(generation_id=step.generation_id, delta=_delta(step))

    def _asked(self, request: policy_pb2.GenerateRequest) -> GenerateRequest:
        request.app_id = caller().app_id(request.app_id)
        return GenerateRequest.from_proto(request, self._defaults)


def _response(written: Written) -> policy_pb2.GenerateResponse:
    return policy_pb2.GenerateResponse(generation=written.generation.to_proto(), recorded=written.recorded)


def _delta(delta: Delta) -> policy_pb2.CompletionDelta:
    return policy_pb2.CompletionDelta(
        index=delta.index,
        text=delta.text,
        token_ids=delta.token_ids,
        logprobs=delta.logprobs,
        finish_reason=int(delta.finish_reason or 0),  # type: ignore[arg-type]
    )
