"""Tensors on the wire: read as Triton's client writes them, and whatever comes, an error of the sender."""

from __future__ import annotations

import numpy as np
import pytest
from attune.api.inference.v2 import inference_pb2
from attune.domain.errors import InvalidInput
from attune.platform.inference.tensors import (
    TensorType,
    add_numbers,
    add_texts,
    asked_outputs,
    read_parameters,
    read_texts,
)
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import InferInput, InferResult, service_pb2
from tritonclient.utils import np_to_triton_dtype

KNOWN = (TensorType("text", length=1), TensorType("stop"))
texts = st.lists(st.text(st.characters(codec="utf-8")), max_size=4)


def request(*tensors: tuple[str, list[bytes]], **fields: object) -> inference_pb2.ModelInferRequest:
    """A request as Triton's client writes it."""
    theirs = service_pb2.ModelInferRequest()
    for name, elements in tensors:
        array = np.array(elements, dtype=np.object_)
        tensor = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)).set_data_from_numpy(array)
        theirs.inputs.append(tensor._get_tensor())
        theirs.raw_input_contents.append(tensor._get_content() or b"")
    found = inference_pb2.ModelInferRequest.FromString(theirs.SerializeToString())
    found.MergeFrom(inference_pb2.ModelInferRequest(**fields))
    return found


@given(texts, texts)
def test_texts_are_read_as_tritons_client_writes_them(one: list[str], other: list[str]) -> None:
    asked = request(("text", [t.encode() for t in one]), ("stop", [t.encode() for t in other]))
    assert read_texts(asked, KNOWN) == {"text": one, "stop": other}


@given(texts, st.lists(st.floats(width=32, allow_nan=False), max_size=4))
def test_tritons_client_reads_what_is_written(found: list[str], numbers: list[float]) -> None:
    response = inference_pb2.ModelInferResponse()
    add_texts(response, "said", found)
    add_numbers(response, "score", numbers)
    result = InferResult(service_pb2.ModelInferResponse.FromString(response.SerializeToString()))
    assert [text.decode() for text in result.as_numpy("said")] == found
    assert result.as_numpy("score").tolist() == numbers
    assert result.as_numpy("score").dtype == np.float32


def test_elements_may_stand_in_the_tensor() -> None:
    asked = inference_pb2.ModelInferRequest()
    asked.inputs.add(name="text", datatype="BYTES", shape=[1, 1]).contents.bytes_contents.append(b"hi")
    assert read_texts(asked, KNOWN) == {"text": ["hi"]}


@pytest.mark.parametrize(
    "asked",
    [
        request(("other", [b"x"])),
        request(("text", [b"x"]), ("text", [b"x"])),
        request(("text", [b"\xff"])),
        request(("text", [b"x"]), raw_input_contents=[b"more"]),
        inference_pb2.ModelInferRequest(inputs=[{"name": "text", "datatype": "BYTES", "shape": [1]}]),
        inference_pb2.ModelInferRequest(inputs=[{"name": "text", "datatype": "FP32", "shape": [0]}]),
        inference_pb2.ModelInferRequest(
            inputs=[{"name": "text", "datatype": "BYTES", "shape": [1]}], raw_input_contents=[b"\x01\x00"]
        ),
        inference_pb2.ModelInferRequest(
            inputs=[{"name": "text", "datatype": "BYTES", "shape": [1]}], raw_input_contents=[b"\x09\x00\x00\x00x"]
        ),
    ],
    ids=range(8),
)
def test_what_is_no_tensor_of_ours_is_the_senders_fault(asked: inference_pb2.ModelInferRequest) -> None:
    with pytest.raises(InvalidInput):
        read_texts(asked, KNOWN)


@given(st.binary(max_size=40), st.lists(st.integers(-2, 5), max_size=2))
def test_any_bytes_are_texts_or_the_senders_fault(raw: bytes, shape: list[int]) -> None:
    asked = inference_pb2.ModelInferRequest(
        inputs=[{"name": "text", "datatype": "BYTES", "shape": shape}], raw_input_contents=[raw]
    )
    try:
        assert read_texts(asked, KNOWN).keys() == {"text"}
    except InvalidInput as error:
        assert error.violations  # noqa: PT017 - both ends are right


def test_parameters_have_their_types() -> None:
    kinds = {"n": int, "temperature": float, "app": str, "flag": bool}
    asked = inference_pb2.ModelInferRequest()
    asked.parameters["n"].uint64_param = 3
    asked.parameters["temperature"].int64_param = 1
    asked.parameters["app"].string_param = "shop"
    asked.parameters["flag"].bool_param = True
    assert read_parameters(asked, kinds) == {"n": 3, "temperature": 1.0, "app": "shop", "flag": True}
    for name, value in (("n", {"bool_param": True}), ("app", {"int64_param": 1}), ("n", {}), ("x", {"int64_param": 1})):
        wrong = inference_pb2.ModelInferRequest(parameters={name: inference_pb2.InferParameter(**value)})
        with pytest.raises(InvalidInput) as raised:
            read_parameters(wrong, kinds)
        assert [v.field for v in raised.value.violations] == [f"parameters.{name}"]


def test_outputs_are_all_unless_some_are_asked_for() -> None:
    assert set(asked_outputs(inference_pb2.ModelInferRequest(), KNOWN)) == {"text", "stop"}
    assert set(asked_outputs(inference_pb2.ModelInferRequest(outputs=[{"name": "stop"}]), KNOWN)) == {"stop"}
    with pytest.raises(InvalidInput):
        asked_outputs(inference_pb2.ModelInferRequest(outputs=[{"name": "other"}]), KNOWN)


def test_a_tensor_is_described_by_its_shape() -> None:
    assert (list(KNOWN[0].to_proto().shape), list(KNOWN[1].to_proto().shape)) == ([1], [-1])
