"""inference.GRPCInferenceService on the wire, for a server of one model whose versions are its revisions.

What a model takes and gives is an InferenceModel; here stand health, metadata, and the two ways to infer. A request for
another model is RevisionUnknown. On a stream requests run side by side, and one that fails is answered with its error
while the stream goes on. Errors of other calls rise; the interceptor turns them into statuses.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

import grpc.aio

from attune.api.inference.v2 import inference_pb2 as pb2
from attune.api.inference.v2 import inference_pb2_grpc
from attune.domain.errors import AttuneError, NoRevision, RevisionNotLoaded, RevisionUnknown
from attune.domain.revisions import RevisionName
from attune.platform.inference.tensors import TensorType

SERVICE = "inference.GRPCInferenceService"
POOL = pb2.DESCRIPTOR.pool
"""Where the messages of this service are described, for reflection."""
FINAL = "triton_final_response"
"""The parameter by which Triton's clients know the last answer to a request of a stream."""


class Revisions(Protocol):
    """The revisions in memory, as attune.modeling.revisions has them."""

    @property
    def live(self) -> str: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    def get(self, asked: str = "") -> Any: ...


class InferenceModel(Protocol):
    """What is inferred with. `infer` yields answers whose `model_version` and tensors are set: one, unless streaming;
    closing it cancels."""

    @property
    def name(self) -> str: ...

    @property
    def platform(self) -> str: ...

    @property
    def inputs(self) -> Sequence[TensorType]: ...

    @property
    def outputs(self) -> Sequence[TensorType]: ...

    def infer(
        self, request: pb2.ModelInferRequest, *, is_streaming: bool
    ) -> AsyncGenerator[pb2.ModelInferResponse, None]: ...


class InferenceServicer(inference_pb2_grpc.GRPCInferenceServiceServicer):
    """See the module."""

    def __init__(self, model: InferenceModel, revisions: Revisions) -> None:
        self._model, self._revisions = model, revisions

    def register(self, server: grpc.aio.Server) -> None:
        inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, server)

    async def ServerLive(
        self, request: pb2.ServerLiveRequest, context: grpc.aio.ServicerContext
    ) -> pb2.ServerLiveResponse:
        return pb2.ServerLiveResponse(live=True)

    async def ServerReady(
        self, request: pb2.ServerReadyRequest, context: grpc.aio.ServicerContext
    ) -> pb2.ServerReadyResponse:
        return pb2.ServerReadyResponse(ready=bool(self._revisions.live))

    async def ModelReady(
        self, request: pb2.ModelReadyRequest, context: grpc.aio.ServicerContext
    ) -> pb2.ModelReadyResponse:
        try:
            self._check(request.name)
            self._revisions.get(request.version)
        except (NoRevision, RevisionNotLoaded, RevisionUnknown):
            return pb2.ModelReadyResponse(ready=False)
        return pb2.ModelReadyResponse(ready=True)

    async def ServerMetadata(
        self, request: pb2.ServerMetadataRequest, context: grpc.aio.ServicerContext
    ) -> pb2.ServerMetadataResponse:
        return pb2.ServerMetadataResponse(name="attune", version=_package_version())

    async def ModelMetadata(
        self, request: pb2.ModelMetadataRequest, context: grpc.aio.ServicerContext
    ) -> pb2.ModelMetadataResponse:
        self._check(request.name)
        self._revisions.get(request.version)
        return pb2.ModelMetadataResponse(
            name=self._model.name,
            versions=sorted((version_of(name) for name in self._revisions.names), key=int),
            platform=self._model.platform,
            inputs=[tensor.to_proto() for tensor in self._model.inputs],
            outputs=[tensor.to_proto() for tensor in self._model.outputs],
        )

    async def ModelInfer(
        self, request: pb2.ModelInferRequest, context: grpc.aio.ServicerContext
    ) -> pb2.ModelInferResponse:
        async with aclosing(self._answers(request, is_streaming=False)) as answers:
            return await anext(answers)

    async def ModelStreamInfer(
        self, requests: AsyncIterator[pb2.ModelInferRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb2.ModelStreamInferResponse]:
        found: asyncio.Queue[pb2.ModelStreamInferResponse | None] = asyncio.Queue()
        reading = asyncio.create_task(self._serve(requests, found))
        reading.add_done_callback(lambda _: found.put_nowait(None))
        try:
            while (answer := await found.get()) is not None:
                yield answer
            reading.result()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _serve(
        self,
        requests: AsyncIterator[pb2.ModelInferRequest],
        found: asyncio.Queue[pb2.ModelStreamInferResponse | None],
    ) -> None:
        async with asyncio.TaskGroup() as serving:
            async for request in requests:
                serving.create_task(self._serve_one(request, found))

    async def _serve_one(
        self, request: pb2.ModelInferRequest, found: asyncio.Queue[pb2.ModelStreamInferResponse | None]
    ) -> None:
        try:
            async with aclosing(self._answers(request, is_streaming=True)) as answers:
                async for answer in answers:
                    found.put_nowait(pb2.ModelStreamInferResponse(infer_response=answer))
        except AttuneError as error:
            refused = pb2.ModelStreamInferResponse(error_message=f"{error.reason}: {error.message}")
            refused.infer_response.id = request.id
            found.put_nowait(refused)

    async def _answers(
        self, request: pb2.ModelInferRequest, *, is_streaming: bool
    ) -> AsyncGenerator[pb2.ModelInferResponse, None]:
        self._check(request.model_name)
        async with aclosing(self._model.infer(request, is_streaming=is_streaming)) as answers:
            async for answer in answers:
                answer.model_name, answer.id = self._model.name, request.id
                yield answer

    def _check(self, name: str) -> None:
        if name != self._model.name:
            raise RevisionUnknown(
                f"there is no model {name[:200]!r} here, but {self._model.name}", metadata={"model": name[:200]}
            )


def version_of(revision: str) -> str:
    """The version that a revision, by its full name, is."""
    return str(RevisionName.parse(revision).number)


def _package_version() -> str:
    try:
        return version("attune")
    except PackageNotFoundError:
        return ""
