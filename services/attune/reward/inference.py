"""The reward model as a model of the Open Inference Protocol: pairs of prompt and completion in, scores out.

Inputs: `completion`, and with as many elements `text_input` (bare text) or `messages` (conversations, each a JSON array
of objects with role and content). Outputs: `score` in units of the revision's anchor set, `raw_score` as the head gives
it. All pairs of a request are scored by one revision.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping

from attune.api.inference.v2 import inference_pb2
from attune.api.reward.v1 import reward_pb2
from attune.api.types.v1 import prompts_pb2
from attune.domain.errors import InvalidInput
from attune.domain.prompts import conversation_from_json
from attune.platform.inference.servicer import FINAL, version_of
from attune.platform.inference.tensors import TensorType, add_numbers, asked_outputs, read_parameters, read_texts
from attune.reward.scorer import Pair, Scorer
from attune.reward.servicer import read_pair

PARAMETERS: Mapping[str, type] = {"triton_enable_empty_final_response": bool}


class RewardInference:
    """See the module."""

    platform = "attune_reward"
    inputs = (TensorType("text_input"), TensorType("messages"), TensorType("completion"))
    outputs = (TensorType("score", "FP32"), TensorType("raw_score", "FP32"))

    def __init__(self, name: str, scorer: Scorer) -> None:
        self.name = name
        self._scorer = scorer

    async def infer(
        self, request: inference_pb2.ModelInferRequest, *, is_streaming: bool
    ) -> AsyncGenerator[inference_pb2.ModelInferResponse, None]:
        """The one answer. What Scorer.score raises, and InvalidInput that names a tensor."""
        read_parameters(request, PARAMETERS)
        outputs = asked_outputs(request, self.outputs)
        scored = await self._scorer.score(_pairs(read_texts(request, self.inputs)), request.model_version)
        found = inference_pb2.ModelInferResponse(model_version=version_of(scored.revision))
        found.parameters["revision"].string_param = scored.revision
        if is_streaming:
            found.parameters[FINAL].bool_param = True
        for name, numbers in (("score", scored.normalised), ("raw_score", scored.raw)):
            if name in outputs:
                add_numbers(found, name, numbers)
        yield found


def _pairs(texts: Mapping[str, list[str]]) -> list[Pair]:
    forms = [name for name in ("text_input", "messages") if name in texts]
    completions = texts.get("completion", [])
    if len(forms) != 1 or len(texts[forms[0]]) != len(completions):
        raise InvalidInput.field("inputs", "must hold completion, and as many elements of text_input or of messages")
    return [
        read_pair(reward_pb2.ScorePair(prompt=_prompt(forms[0], prompt, i), completion=completion), f"pairs[{i}]")
        for i, (prompt, completion) in enumerate(zip(texts[forms[0]], completions, strict=True))
    ]


def _prompt(form: str, text: str, index: int) -> prompts_pb2.Prompt:
    if form == "text_input":
        return prompts_pb2.Prompt(text=text)
    return prompts_pb2.Prompt(conversation=conversation_from_json(text, f"inputs.messages[{index}]"))
