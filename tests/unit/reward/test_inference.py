"""The reward model called by Triton's client, before a real scorer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from attune.domain.prompts import Prompt
from attune.platform.inference.servicer import POOL, SERVICE, InferenceServicer
from attune.platform.rpc.interceptors import RpcMetrics
from attune.platform.rpc.server import RpcServer
from attune.reward.inference import RewardInference
from prometheus_client import CollectorRegistry
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException
from unit.reward.scoring import Running

ASKED, SAID = ["Where is my order?", "Hello"], ["Here.", "Good day, Ada."]


def tensors(**texts: list[str]) -> list[InferInput]:
    arrays = {name: np.array([text.encode() for text in value], dtype=np.object_) for name, value in texts.items()}
    return [InferInput(n, list(a.shape), "BYTES").set_data_from_numpy(a) for n, a in arrays.items()]


@pytest.fixture
async def triton(running: Running) -> AsyncIterator[InferenceServerClient]:
    servicer = InferenceServicer(RewardInference("support", running.scorer), running.revisions.loaded)
    metrics = RpcMetrics(CollectorRegistry())
    server = RpcServer({SERVICE: servicer.register}, host="127.0.0.1", port=0, metrics=metrics, described=POOL)
    await server.start()
    async with InferenceServerClient(server.address) as client:
        yield client
    await server.stop(0)


async def test_scores_are_those_of_the_other_door(running: Running, triton: InferenceServerClient) -> None:
    scored = await running.scorer.score([(Prompt(text=a), s) for a, s in zip(ASKED, SAID, strict=True)])
    result = await triton.infer("support", tensors(text_input=ASKED, completion=SAID))
    assert result.as_numpy("score").dtype == np.float32
    assert result.as_numpy("score") == pytest.approx(scored.normalised, abs=1e-5)
    assert result.as_numpy("raw_score") == pytest.approx(scored.raw, abs=1e-5)
    response = result.get_response()
    assert (response.model_version, response.parameters["revision"].string_param) == ("1", scored.revision)


async def test_conversations_are_scored(running: Running, triton: InferenceServerClient) -> None:
    scored = await running.scorer.score([(Prompt.user(ASKED[0]), SAID[0])])
    messages = [json.dumps([{"role": "user", "content": ASKED[0]}])]
    outputs = [InferRequestedOutput("raw_score")]
    result = await triton.infer("support", tensors(messages=messages, completion=SAID[:1]), outputs=outputs)
    assert result.as_numpy("raw_score") == pytest.approx(scored.raw, abs=1e-5)
    assert result.as_numpy("score") is None


async def test_a_stream_answers_each_request_once(triton: InferenceServerClient) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for i in range(3):
            inputs = tensors(text_input=ASKED, completion=SAID)
            yield {"model_name": "support", "inputs": inputs, "request_id": str(i)}

    found = [result async for result, error in triton.stream_infer(requests()) if error is None]
    assert sorted(result.get_response().id for result in found) == ["0", "1", "2"]
    assert all(result.get_response().parameters["triton_final_response"].bool_param for result in found)


async def test_the_model_is_described(triton: InferenceServerClient) -> None:
    metadata = await triton.get_model_metadata("support", as_json=True)
    assert (metadata["platform"], metadata["versions"]) == ("attune_reward", ["1"])
    assert {(t["name"], t["datatype"]) for t in metadata["outputs"]} == {("score", "FP32"), ("raw_score", "FP32")}


@pytest.mark.parametrize(
    ("inputs", "version", "status"),
    [
        ({"completion": SAID}, "", "INVALID_ARGUMENT"),
        ({"text_input": ASKED, "completion": SAID[:1]}, "", "INVALID_ARGUMENT"),
        ({"text_input": [], "completion": []}, "", "INVALID_ARGUMENT"),
        ({"text_input": [" "], "completion": ["x"]}, "", "INVALID_ARGUMENT"),
        ({"messages": ["no"], "completion": ["x"]}, "", "INVALID_ARGUMENT"),
        ({"text_input": ["a " * 200], "completion": ["x"]}, "", "INVALID_ARGUMENT"),
        ({"text_input": ASKED, "completion": SAID}, "2", "FAILED_PRECONDITION"),
        ({"text_input": ASKED, "completion": SAID}, "77", "NOT_FOUND"),
    ],
    ids=range(8),
)
async def test_errors_have_their_status(
    triton: InferenceServerClient, inputs: dict[str, list[str]], version: str, status: str
) -> None:
    with pytest.raises(InferenceServerException) as raised:
        await triton.infer("support", tensors(**inputs), model_version=version)
    assert raised.value.status() == f"StatusCode.{status}"
