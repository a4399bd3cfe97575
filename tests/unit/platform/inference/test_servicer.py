"""The service around a model that says back what it is told, called by Triton's clients."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import numpy as np
import pytest
from attune.api.inference.v2 import inference_pb2
from attune.domain.errors import InvalidInput, NoRevision, RevisionNotLoaded
from attune.platform.inference.servicer import FINAL, POOL, SERVICE, InferenceServicer
from attune.platform.inference.tensors import TensorType, add_texts, read_texts
from attune.platform.rpc.interceptors import RpcMetrics
from attune.platform.rpc.server import RpcServer
from prometheus_client import CollectorRegistry
from support.eventually import eventually
from tritonclient.grpc import InferInput, InferResult
from tritonclient.grpc import service_pb2 as theirs
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException


class Revisions:
    """Two revisions, the second one live."""

    names = tuple(f"policies/support/revisions/{n}" for n in (2, 10))
    live = names[1]

    def get(self, asked: str = "") -> str:
        if asked not in ("", "2", "10"):
            raise RevisionNotLoaded(f"no {asked}")
        return self.live


class NoneYet:
    names = ()
    live = ""

    def get(self, asked: str = "") -> str:
        raise NoRevision("nothing is live")


@dataclass
class Parrot:
    """Says each word of the text in an answer of its own on a stream, else all. "wait" never ends, "bad" is refused."""

    name: str = "support"
    platform: str = "parrot"
    inputs: tuple[TensorType, ...] = (TensorType("text_input", length=1),)
    outputs: tuple[TensorType, ...] = (TensorType("text_output"),)
    waiting: int = 0
    heard: list[str] = field(default_factory=list)

    async def infer(
        self, request: inference_pb2.ModelInferRequest, *, is_streaming: bool
    ) -> AsyncGenerator[inference_pb2.ModelInferResponse, None]:
        ((text,),) = read_texts(request, self.inputs).values()
        self.heard.append(text)
        if text == "bad":
            raise InvalidInput.field("inputs.text_input", "is bad")
        if text == "odd":
            raise KeyError("a fault of ours")
        if text == "wait":
            self.waiting += 1
            try:
                await asyncio.Event().wait()
            finally:
                self.waiting -= 1
        for word in text.split() if is_streaming else [text]:
            found = inference_pb2.ModelInferResponse(model_version="10")
            add_texts(found, "text_output", [word])
            found.parameters[FINAL].bool_param = text.endswith(word)
            yield found


@dataclass
class Running:
    client: InferenceServerClient
    parrot: Parrot

    async def stream(self, *words: str) -> AsyncIterator[tuple[InferResult | None, InferenceServerException | None]]:
        async def requests() -> AsyncIterator[dict]:
            for i, text in enumerate(words):
                yield {"model_name": "support", "inputs": said(text), "request_id": str(i)}

        async for answer in self.client.stream_infer(requests()):
            yield answer


def said(text: str) -> list[InferInput]:
    array = np.array([text.encode()], dtype=np.object_)
    return [InferInput("text_input", [1], "BYTES").set_data_from_numpy(array)]


def text_of(result: InferResult) -> str:
    return result.as_numpy("text_output")[0].decode()


@asynccontextmanager
async def running(revisions: Revisions | NoneYet) -> AsyncIterator[Running]:
    parrot = Parrot()
    server = RpcServer(
        {SERVICE: InferenceServicer(parrot, revisions).register},
        host="127.0.0.1",
        port=0,
        metrics=RpcMetrics(CollectorRegistry()),
        described=POOL,
    )
    await server.start()
    try:
        async with InferenceServerClient(server.address) as client:
            yield Running(client, parrot)
    finally:
        await server.stop(0)


@pytest.fixture
async def service() -> AsyncIterator[Running]:
    async with running(Revisions()) as service:
        yield service


async def test_health_and_metadata(service: Running) -> None:
    client = service.client
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert (await client.get_server_metadata()).name == "attune"
    ready = [await client.is_model_ready("support", version) for version in ("", "2", "7")]
    assert ready == [True, True, False]
    assert not await client.is_model_ready("other")
    metadata = await client.get_model_metadata("support")
    assert (metadata.name, list(metadata.versions), metadata.platform) == ("support", ["2", "10"], "parrot")
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [("text_input", "BYTES", [1])]
    assert [t.name for t in metadata.outputs] == ["text_output"]


async def test_without_a_revision_it_lives_and_is_not_ready() -> None:
    async with running(NoneYet()) as service:
        assert await service.client.is_server_live()
        assert not await service.client.is_server_ready()
        assert not await service.client.is_model_ready("support")
        with pytest.raises(InferenceServerException) as raised:
            await service.client.get_model_metadata("support")
    assert raised.value.status() == "StatusCode.UNAVAILABLE"


async def test_an_answer_repeats_the_id_and_names_model_and_version(service: Running) -> None:
    result = await service.client.infer("support", said("hello"), request_id="mine")
    response = result.get_response()
    assert (response.model_name, response.model_version, response.id) == ("support", "10", "mine")
    assert text_of(result) == "hello"


@pytest.mark.parametrize(
    ("name", "text", "status"), [("other", "x", "NOT_FOUND"), ("support", "bad", "INVALID_ARGUMENT")]
)
async def test_errors_have_their_status(service: Running, name: str, text: str, status: str) -> None:
    with pytest.raises(InferenceServerException) as raised:
        await service.client.infer(name, said(text))
    assert raised.value.status() == f"StatusCode.{status}"


async def test_what_is_not_served_is_unimplemented(service: Running) -> None:
    with pytest.raises(InferenceServerException) as raised:
        await service.client.get_model_repository_index()
    assert raised.value.status() == "StatusCode.UNIMPLEMENTED"


async def test_requests_of_a_stream_run_side_by_side_and_fail_alone(service: Running) -> None:
    found: dict[str, list[str]] = {}
    errors = []
    async for result, error in service.stream("one two", "bad", "three"):
        if error is not None:
            errors.append(error.message())
        elif result is not None:
            found.setdefault(result.get_response().id, []).append(text_of(result))
    assert found == {"0": ["one", "two"], "2": ["three"]}
    assert errors == ["INVALID_INPUT: inputs.text_input: is bad"]


async def test_a_fault_of_ours_ends_the_stream(service: Running) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        async for _ in service.stream("wait", "odd"):
            pass
    assert raised.value.code() is grpc.StatusCode.INTERNAL
    await eventually(lambda: service.parrot.waiting == 0)


async def test_a_caller_who_goes_cancels_what_runs(service: Running) -> None:
    async def ask() -> None:
        async for _ in service.stream("wait", "wait"):
            pass

    asked = asyncio.create_task(ask())
    await eventually(lambda: service.parrot.waiting == 2)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    await eventually(lambda: service.parrot.waiting == 0)


@pytest.mark.parametrize("first", ["attune.api.inference.v2.inference_pb2", "tritonclient.grpc.service_pb2"])
def test_our_messages_and_those_of_a_client_live_in_one_process(first: str) -> None:
    """Both register the names of the protocol, whichever comes first."""
    code = (
        f"import {first}\n"
        "from attune.api.inference.v2 import inference_pb2 as ours\n"
        "from tritonclient.grpc import service_pb2 as theirs\n"
        "assert ours.ModelInferRequest.DESCRIPTOR.full_name == theirs.ModelInferRequest.DESCRIPTOR.full_name\n"
        "assert ours.DESCRIPTOR.pool is not theirs.DESCRIPTOR.pool\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fields_are_those_of_the_protocol() -> None:
    for name, ours in inference_pb2.DESCRIPTOR.message_types_by_name.items():
        known = {(f.name, f.number, f.type) for f in theirs.DESCRIPTOR.message_types_by_name[name].fields}
        assert {(f.name, f.number, f.type) for f in ours.fields} <= known
    (service,) = inference_pb2.DESCRIPTOR.services_by_name.values()
    methods = theirs.DESCRIPTOR.services_by_name[service.name].methods_by_name
    for method in service.methods:
        theirs_too = methods[method.name]
        assert method.input_type.full_name == theirs_too.input_type.full_name
        assert method.output_type.full_name == theirs_too.output_type.full_name
        assert (method.client_streaming, method.server_streaming) == (
            theirs_too.client_streaming,
            theirs_too.server_streaming,
        )
