"""The policy as a model of the Open Inference Protocol: prompts in, completions out, streamed where that is asked for.

Inputs: `text_input` (bare text) or `messages` (a conversation as a JSON array of objects with role and content), one
element; `stop`, any number. Parameters say how to draw, as PolicyService's request does. Outputs have one element for
each completion. On a stream each answer holds what one completion gained, and the last one has triton_final_response
and leaves once the generation is recorded, or could not be.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from typing import Any

from attune.api.inference.v2 import inference_pb2
from attune.api.policy.v1 import policy_pb2
from attune.api.types.v1 import generations_pb2, prompts_pb2
from attune.domain.errors import FieldViolation, InvalidInput
from attune.domain.generations import FinishReason, GenerateRequest, Purpose, Sampling
from attune.domain.ids import completion_id
from attune.domain.prompts import conversation_from_json
from attune.platform.inference.servicer import FINAL, version_of
from attune.platform.inference.tensors import TensorType, add_texts, asked_outputs, read_parameters, read_texts
from attune.platform.rpc.interceptors import caller
from attune.policy.writer import Delta, Writer, Written

Response = inference_pb2.ModelInferResponse
SAMPLING: dict[str, type] = {
    "max_tokens": int,
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "seed": int,
    "completions": int,
}
PARAMETERS: Mapping[str, type] = SAMPLING | {
    "app_id": str,
    "subject_id": str,
    "generation_id": str,
    "purpose": str,
    "triton_enable_empty_final_response": bool,
}


class PolicyInference:
    """See the module. `app_id` is whose requests are when neither they nor the caller's key say."""

    platform = "attune_policy"
    inputs = (TensorType("text_input", length=1), TensorType("messages", length=1), TensorType("stop"))
    outputs = (TensorType("text_output"), TensorType("completion_id"), TensorType("finish_reason"))

    def __init__(self, name: str, writer: Writer, defaults: Sampling, app_id: str) -> None:
        self.name = name
        self._writer, self._defaults, self._app_id = writer, defaults, app_id

    async def infer(
        self, request: inference_pb2.ModelInferRequest, *, is_streaming: bool
    ) -> AsyncGenerator[Response, None]:
        """Answers to a request. What Writer.write raises, InvalidInput that names a tensor or a parameter, and
        PermissionDenied for an app that is not the caller's."""
        asked, outputs = self._read(request), asked_outputs(request, self.outputs)
        left, last = asked.sampling.completions, Response()
        async with aclosing(self._writer.write(asked, is_streaming=is_streaming)) as steps:
            async for step in steps:
                if isinstance(step, Written):
                    yield _last(last, step) if is_streaming else _whole(step, outputs)
                elif is_streaming:
                    left -= step.finish_reason is not None
                    last = _part(step, outputs)
                    if left:
                        yield last

    def _read(self, request: inference_pb2.ModelInferRequest) -> GenerateRequest:
        texts = read_texts(request, self.inputs)
        given, who = read_parameters(request, PARAMETERS), caller()
        try:
            proto = policy_pb2.GenerateRequest(
                app_id=who.app_id(given.get("app_id", who.name or self._app_id), "parameters.app_id"),
                generation_id=given.get("generation_id"),
                subject_id=given.get("subject_id"),
                prompt=_prompt(texts),
                sampling=_sampling({name: given[name] for name in SAMPLING if name in given}, texts.get("stop", [])),
                revision=request.model_version,
                purpose=_purpose(given.get("purpose", "user")),  # type: ignore[arg-type]
            )
            return GenerateRequest.from_proto(proto, self._defaults)
        except InvalidInput as error:
            raise _named_as_asked(error) from None


def _prompt(texts: Mapping[str, list[str]]) -> prompts_pb2.Prompt:
    forms = [name for name in ("text_input", "messages") if name in texts]
    if len(forms) != 1 or len(texts[forms[0]]) != 1:
        raise InvalidInput.field("inputs", "must hold text_input or messages, of one element: one prompt a generation")
    (text,) = texts[forms[0]]
    if forms == ["text_input"]:
        return prompts_pb2.Prompt(text=text)
    return prompts_pb2.Prompt(conversation=conversation_from_json(text, "inputs.messages"))


def _sampling(given: Mapping[str, Any], stop: list[str]) -> generations_pb2.SamplingParameters:
    for name, value in given.items():
        highest = 2**64 - 1 if name == "seed" else 2**32 - 1
        if isinstance(value, int) and not 0 <= value <= highest:
            raise InvalidInput.field(f"sampling.{name}", f"must be 0 to {highest}")
    return generations_pb2.SamplingParameters(**given, stop=stop)


def _purpose(name: Any) -> int:
    try:
        return int(Purpose[str(name).upper()])
    except KeyError:
        raise InvalidInput.field("purpose", "must be user or rollout") from None


def _named_as_asked(error: InvalidInput) -> InvalidInput:
    """The error with its fields called as this protocol calls them."""
    violations = [FieldViolation(_named(v.field), v.description) for v in error.violations]
    return InvalidInput("; ".join(f"{v.field}: {v.description}" for v in violations), violations=violations)


def _named(field: str) -> str:
    if field.startswith("inputs"):
        return field
    if field.startswith("prompt."):
        return f"inputs.{'text_input' if field == 'prompt.text' else field.removeprefix('prompt.conversation.')}"
    name = field.removeprefix("sampling.")
    return "inputs.stop" if name == "stop" else f"parameters.{name}"


def _whole(written: Written, outputs: Collection[str]) -> Response:
    generation = written.generation
    found = _response(generation.id, generation.revision)
    _add(
        found,
        outputs,
        text_output=[c.text for c in generation.completions],
        completion_id=[c.id for c in generation.completions],
        finish_reason=[_reason(c.finish_reason) for c in generation.completions],
    )
    found.parameters["recorded"].bool_param = written.recorded
    return found


def _part(delta: Delta, outputs: Collection[str]) -> Response:
    found = _response(delta.generation_id, delta.revision)
    _add(
        found,
        outputs,
        text_output=[delta.text],
        completion_id=[completion_id(delta.generation_id, delta.index)],
        finish_reason=[_reason(delta.finish_reason)],
    )
    found.parameters[FINAL].bool_param = False
    return found


def _last(part: Response, written: Written) -> Response:
    part.parameters["recorded"].bool_param = written.recorded
    part.parameters[FINAL].bool_param = True
    return part


def _response(generation_id: str, revision: str) -> Response:
    found = Response(model_version=version_of(revision))
    found.parameters["generation_id"].string_param = generation_id
    found.parameters["revision"].string_param = revision
    return found


def _add(response: Response, outputs: Collection[str], **tensors: list[str]) -> None:
    for name, texts in tensors.items():
        if name in outputs:
            add_texts(response, name, texts)


def _reason(reason: FinishReason | None) -> str:
    """In lower case; empty while the completion goes on."""
    return reason.name.lower() if reason else ""
