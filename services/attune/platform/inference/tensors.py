"""Tensors and parameters of the Open Inference Protocol: read from requests, and written into responses.

Text goes as BYTES in UTF-8, numbers as FP32. Elements come in an input's `contents` or, all inputs alike, in
`raw_input_contents`; they leave as raw contents, which every client reads. Refused (InvalidInput, by name): tensors and
parameters that are not known, elements that do not fit the shape, shared memory.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attune.api.inference.v2 import inference_pb2
from attune.domain.errors import InvalidInput

Request = inference_pb2.ModelInferRequest
Response = inference_pb2.ModelInferResponse
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class TensorType:
    """What a tensor is: its name, "BYTES" or "FP32", and its length; -1 is any."""

    name: str
    datatype: str = "BYTES"
    length: int = -1

    def to_proto(self) -> inference_pb2.ModelMetadataResponse.TensorMetadata:
        return inference_pb2.ModelMetadataResponse.TensorMetadata(
            name=self.name, datatype=self.datatype, shape=[self.length]
        )


def read_texts(request: Request, known: Sequence[TensorType]) -> dict[str, list[str]]:
    """The elements of every input, all of which are texts, by name."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidInput.field("raw_input_contents", f"must be one for each of {len(request.inputs)} inputs")
    found: dict[str, list[str]] = {}
    for index, tensor in enumerate(request.inputs):
        field = f"inputs.{tensor.name[:200]}"
        if tensor.name not in {kind.name for kind in known}:
            raise InvalidInput.field(field, f"is not known; inputs are {', '.join(kind.name for kind in known)}")
        if tensor.name in found:
            raise InvalidInput.field(field, "stands twice")
        if tensor.datatype != "BYTES" or tensor.parameters:
            raise InvalidInput.field(field, "must be BYTES, with its elements in the request")
        elements = list(_elements(raw[index], field)) if raw else list(tensor.contents.bytes_contents)
        if len(elements) != math.prod(tensor.shape):
            raise InvalidInput.field(field, f"has {len(elements)} elements, and another number by its shape")
        found[tensor.name] = [_text(element, field) for element in elements]
    return found


def read_parameters(request: Request, known: Mapping[str, type]) -> dict[str, Any]:
    """The parameters of a request by name, each of the type that `known` has for it; an integer is a number too."""
    found: dict[str, Any] = {}
    for name, parameter in request.parameters.items():
        field = f"parameters.{name[:200]}"
        if (kind := known.get(name)) is None:
            raise InvalidInput.field(field, f"is not known; parameters are {', '.join(known)}")
        choice = parameter.WhichOneof("parameter_choice")
        value = getattr(parameter, choice) if choice else None
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise InvalidInput.field(field, f"must be of type {kind.__name__}")
        found[name] = value
    return found


def asked_outputs(request: Request, known: Sequence[TensorType]) -> Collection[str]:
    """The outputs that shall come out."""
    names = [kind.name for kind in known]
    for output in request.outputs:
        if output.name not in names or output.parameters:
            raise InvalidInput.field(
                f"outputs.{output.name[:200]}", f"is not known, or has parameters; outputs are {', '.join(names)}"
            )
    return {output.name for output in request.outputs} or names


def add_texts(response: Response, name: str, texts: Sequence[str]) -> None:
    """Adds an output of texts."""
    response.outputs.add(name=name, datatype="BYTES", shape=[len(texts)])
    encoded = [text.encode() for text in texts]
    response.raw_output_contents.append(b"".join(_LENGTH.pack(len(text)) + text for text in encoded))


def add_numbers(response: Response, name: str, numbers: Sequence[float]) -> None:
    """Adds an output of FP32."""
    response.outputs.add(name=name, datatype="FP32", shape=[len(numbers)])
    response.raw_output_contents.append(struct.pack(f"<{len(numbers)}f", *numbers))


def _elements(raw: bytes, field: str) -> Iterator[bytes]:
    position = 0
    while position < len(raw):
        start = position + _LENGTH.size
        length = _LENGTH.unpack_from(raw, position)[0] if start <= len(raw) else len(raw)
        if start + length > len(raw):
            raise InvalidInput.field(field, "ends in the middle of an element")
        yield raw[start : start + length]
        position = start + length


def _text(element: bytes, field: str) -> str:
    try:
        return element.decode()
    except UnicodeDecodeError:
        raise InvalidInput.field(field, "must be UTF-8") from None
