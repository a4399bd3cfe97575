"""The policy called by Triton's clients, before a real engine."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attune.platform.access.keys import KeyStore, new_key, write_keys
from attune.platform.access.settings import Access
from support.eventually import eventually
from tritonclient import grpc as blocking
from tritonclient.grpc import InferInput, InferRequestedOutput, InferResult
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException
from unit.policy.serving import Server, serving

ASKED = "Where is my order?"
REVISION = "policies/support/revisions/1"


def tensors(**texts: str | list[str]) -> list[InferInput]:
    found = []
    for name, value in texts.items():
        array = np.array([t.encode() for t in ([value] if isinstance(value, str) else value)], dtype=np.object_)
        found.append(InferInput(name, list(array.shape), "BYTES").set_data_from_numpy(array))
    return found


def texts_of(result: InferResult, name: str = "text_output") -> list[str]:
    return [text.decode() for text in result.as_numpy(name)]


def parameter(result: InferResult, name: str) -> Any:
    value = result.get_response().parameters[name]
    return getattr(value, value.WhichOneof("parameter_choice"))


@pytest.fixture
async def triton(server: Server) -> AsyncIterator[InferenceServerClient]:
    async with InferenceServerClient(server.address) as client:
        yield client


async def stream(
    client: InferenceServerClient, *requests: dict[str, Any], headers: dict[str, str] | None = None
) -> list[InferResult]:
    async def asked() -> AsyncIterator[dict[str, Any]]:
        for i, request in enumerate(requests):
            yield {"model_name": "support", "request_id": str(i)} | request

    found = []
    async for result, error in client.stream_infer(asked(), headers=headers):
        if error is not None:
            raise error
        found.append(result)
    return found


async def test_an_answer_names_what_feedback_is_sent_for(server: Server, triton: InferenceServerClient) -> None:
    given = {"app_id": "shop", "subject_id": "ada", "completions": 2, "max_tokens": 8, "temperature": 0.8, "seed": 7}
    result = await triton.infer("support", tensors(text_input=ASKED), parameters=given)
    (generation,) = server.recorded()
    assert texts_of(result) == [c.text for c in generation.completions]
    assert texts_of(result, "completion_id") == [c.id for c in generation.completions]
    assert set(texts_of(result, "finish_reason")) <= {"eos", "length"}
    assert result.get_response().model_version == "1"
    told = {name: parameter(result, name) for name in ("generation_id", "revision", "recorded")}
    assert told == {"generation_id": generation.id, "revision": REVISION, "recorded": True}
    assert (generation.app_id, generation.subject_id, generation.prompt.text) == ("shop", "ada", ASKED)
    assert (generation.sampling.max_tokens, generation.sampling.temperature, generation.sampling.seed) == (8, 0.8, 7)


async def test_a_conversation_says_what_the_other_door_says(server: Server, triton: InferenceServerClient) -> None:
    messages = json.dumps([{"role": "user", "content": ASKED}])
    result = await triton.infer("support", tensors(messages=messages, stop=["e", "zz"]), parameters={"seed": 5})
    over_grpc = await server.client.generate(ASKED, seed=5, stop=["e", "zz"])
    assert tuple(texts_of(result)) == over_grpc.texts
    assert {generation.app_id for generation in server.recorded()} == {"default", "test"}


async def test_outputs_are_those_that_are_asked_for(triton: InferenceServerClient) -> None:
    outputs = [InferRequestedOutput("text_output")]
    result = await triton.infer("support", tensors(text_input=ASKED), outputs=outputs)
    assert [output.name for output in result.get_response().outputs] == ["text_output"]


async def test_a_stream_gives_what_the_whole_answer_gives(server: Server, triton: InferenceServerClient) -> None:
    asked = {"inputs": tensors(text_input=ASKED), "parameters": {"completions": 3, "seed": 5}}
    whole = await triton.infer("support", **asked)
    parts = await stream(triton, asked)
    (_, generation) = server.recorded()
    for index, text in enumerate(texts_of(whole)):
        mine = [part for part in parts if texts_of(part, "completion_id") == [f"{generation.id}/{index}"]]
        assert "".join(texts_of(part)[0] for part in mine) == text
        reasons = [texts_of(part, "finish_reason")[0] for part in mine]
        assert reasons == [""] * (len(mine) - 1) + [texts_of(whole, "finish_reason")[index]]
    assert [parameter(part, "triton_final_response") for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parameter(parts[-1], "recorded") is True
    assert {parameter(part, "revision") for part in parts} == {REVISION}


async def test_requests_of_one_stream_are_written_together(triton: InferenceServerClient) -> None:
    parts = await stream(triton, *({"inputs": tensors(text_input=f"{ASKED} {i}")} for i in range(5)))
    finals = [part.get_response().id for part in parts if parameter(part, "triton_final_response")]
    assert sorted(finals) == ["0", "1", "2", "3", "4"]


async def test_a_version_is_a_revision(server: Server, triton: InferenceServerClient) -> None:
    two = server.shop.publish()
    with pytest.raises(InferenceServerException) as raised:
        await triton.infer("support", tensors(text_input=ASKED), model_version="2")
    assert raised.value.status() == "StatusCode.FAILED_PRECONDITION"
    server.shop.revisions.preload(two, 0)
    assert list((await triton.get_model_metadata("support")).versions) == ["1", "2"]
    assert await triton.is_model_ready("support", "2")
    result = await triton.infer("support", tensors(text_input=ASKED), model_version="2")
    assert (result.get_response().model_version, parameter(result, "revision")) == ("2", two)


@pytest.mark.parametrize(
    ("inputs", "parameters", "field"),
    [
        ({}, {}, "inputs"),
        ({"text_input": "a", "messages": "[]"}, {}, "inputs"),
        ({"text_input": ["a", "b"]}, {}, "inputs"),
        ({"text_input": " "}, {}, "inputs.text_input"),
        ({"messages": "hello"}, {}, "inputs.messages"),
        ({"messages": '[{"role": "wizard", "content": "x"}]'}, {}, "inputs.messages[0].role"),
        ({"text_input": "a", "stop": ""}, {}, "inputs.stop"),
        ({"text_input": "a"}, {"max_tokens": 0}, "parameters.max_tokens"),
        ({"text_input": "a"}, {"max_tokens": -1}, "parameters.max_tokens"),
        ({"text_input": "a"}, {"temperature": 0.0}, "parameters.temperature"),
        ({"text_input": "a"}, {"purpose": "fun"}, "parameters.purpose"),
        ({"text_input": "a"}, {"generation_id": "seven"}, "parameters.generation_id"),
        ({"text_input": "a"}, {"surprise": 1}, "parameters.surprise"),
    ],
    ids=range(13),
)
async def test_a_bad_request_names_what_does_not_hold(
    triton: InferenceServerClient, inputs: dict[str, Any], parameters: dict[str, Any], field: str
) -> None:
    with pytest.raises(InferenceServerException) as raised:
        await triton.infer("support", tensors(**inputs), parameters=parameters)
    assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert raised.value.message().startswith(f"{field}: ")


async def test_a_caller_who_goes_cancels_what_waits(server: Server, triton: InferenceServerClient) -> None:
    server.engine.pause("so that it waits")
    asked = [
        asyncio.create_task(triton.infer("support", tensors(text_input=ASKED), parameters={"completions": 4})),
        asyncio.create_task(stream(triton, {"inputs": tensors(text_input=ASKED), "parameters": {"completions": 4}})),
    ]
    await eventually(lambda: server.engine.queued_completions == 8)
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    await eventually(lambda: server.engine.queued_completions == 0)
    server.engine.resume()
    assert server.shop.sample("attune_generation_requests_total", purpose="user", outcome="cancelled") == 2


async def test_the_blocking_client_works_too(server: Server) -> None:
    def ask() -> list[str]:
        parts: list[str] = []
        is_last = threading.Event()

        def take(result: InferResult | None, error: InferenceServerException | None) -> None:
            if result is not None:
                parts.append(texts_of(result)[0])
            if error is not None or parameter(result, "triton_final_response"):
                is_last.set()

        with blocking.InferenceServerClient(server.address) as client:
            assert client.is_server_ready()
            whole = texts_of(client.infer("support", tensors(text_input=ASKED), parameters={"seed": 3}))
            client.start_stream(take)
            client.async_stream_infer("support", tensors(text_input=ASKED), parameters={"seed": 3})
            assert is_last.wait(30)
            client.stop_stream()
        return [*whole, "".join(parts)]

    whole, streamed = await asyncio.to_thread(ask)
    assert whole == streamed


SHOP, SHOP_KEPT = new_key("shop", ["generate"])
BEARER = {"authorization": f"Bearer {SHOP}"}


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Server]:
    write_keys(tmp_path / "keys.json", [SHOP_KEPT])
    async with serving(tmp_path, access=Access(KeyStore(tmp_path / "keys.json"))) as server:
        yield server


async def test_a_key_speaks_for_its_app_and_need_not_name_it(guarded: Server) -> None:
    asked: dict[str, Any] = {"inputs": tensors(text_input=ASKED)}
    async with InferenceServerClient(guarded.address) as client:
        await client.infer("support", **asked, headers=BEARER)
        await client.infer("support", **asked, parameters={"app_id": "shop"}, headers=BEARER)
        await stream(client, asked, headers=BEARER)
    assert [generation.app_id for generation in guarded.recorded()] == ["shop"] * 3


async def test_a_key_speaks_for_no_other_app(guarded: Server) -> None:
    asked: dict[str, Any] = {"inputs": tensors(text_input=ASKED), "parameters": {"app_id": "forum"}}
    async with InferenceServerClient(guarded.address) as client:
        with pytest.raises(InferenceServerException, match=r"parameters\.app_id: must be shop") as raised:
            await client.infer("support", **asked, headers=BEARER)
        with pytest.raises(InferenceServerException, match=r"PERMISSION_DENIED: parameters\.app_id"):
            await stream(client, asked, headers=BEARER)
        with pytest.raises(InferenceServerException) as keyless:
            await client.infer("support", tensors(text_input=ASKED))
    assert raised.value.status() == "StatusCode.PERMISSION_DENIED"
    assert keyless.value.status() == "StatusCode.UNAUTHENTICATED"
    assert guarded.recorded() == []
