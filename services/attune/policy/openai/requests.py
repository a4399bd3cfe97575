"""Requests of OpenAI's clients: their JSON is read into the request that gRPC sends, and checked by the same code.

A field that would change the answer and cannot be honoured is refused, never dropped: tools, penalties, alternatives to
the drawn tokens, prompts as token ids or several at once. Fields that change nothing here are let pass. What OpenAI has
no field for comes in headers: `Attune-App` (the app that asks; a key says it too), `Attune-Generation-Id` (an id chosen
by the caller) and `Attune-Purpose` ("user" or "rollout"). `user` is the person it is for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from attune.api.policy.v1 import policy_pb2
from attune.api.types.v1 import generations_pb2, prompts_pb2
from attune.domain.access import Identity
from attune.domain.errors import FieldViolation, InvalidInput
from attune.domain.generations import GenerateRequest, Purpose, Sampling
from attune.domain.revisions import ModelName
from attune.policy.openai.models import asked_revision

APP, GENERATION_ID, PURPOSE = "Attune-App", "Attune-Generation-Id", "Attune-Purpose"
MAX_UINT32, MAX_UINT64 = 2**32 - 1, 2**64 - 1
_COMMON = (
    "model", "max_tokens", "temperature", "top_p", "n", "seed", "stop", "stream", "stream_options", "logprobs",
    "user", "safety_identifier",
)  # fmt: skip
_CHAT, _TEXT = (*_COMMON, "messages", "max_completion_tokens"), (*_COMMON, "prompt")
_WITHOUT_EFFECT = ("metadata", "store", "service_tier", "parallel_tool_calls", "prompt_cache_key")
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
}
"""Fields that cannot be honoured, and the values that ask for nothing; null is one of them always."""
_NAMES = {"completions": "n", "app_id": APP, "generation_id": GENERATION_ID, "purpose": PURPOSE, "subject_id": "user"}


@dataclass(frozen=True)
class Asked:
    """What the writer is asked, and how the answer is to look. `logprobs`: whether it tells those of its tokens."""

    request: GenerateRequest
    is_chat: bool
    is_streaming: bool
    logprobs: bool
    stream_usage: bool


@dataclass(frozen=True)
class Reader:
    """Reads requests to one policy; `app_id` is whose they are when neither they nor the caller's key say."""

    model: ModelName
    defaults: Sampling
    app_id: str

    def chat(self, body: Any, headers: Mapping[str, str], caller: Identity) -> Asked:
        """A body of POST /v1/chat/completions. InvalidInput names its field; RevisionUnknown for the model;
        PermissionDenied for an app that is not the caller's."""
        fields = _Fields(body, _CHAT)
        prompt = prompts_pb2.Prompt(conversation=_conversation(fields.take("messages", list)))
        logprobs = fields.take("logprobs", bool) or False
        return self._asked(fields, headers, caller, prompt, logprobs, is_chat=True)

    def text(self, body: Any, headers: Mapping[str, str], caller: Identity) -> Asked:
        """A body of POST /v1/completions; errors as of `chat`."""
        fields = _Fields(body, _TEXT)
        prompt = prompts_pb2.Prompt(text=_one_text(fields.values.get("prompt")))
        logprobs = fields.integer("logprobs", MAX_UINT32)
        if logprobs:
            raise InvalidInput.field("logprobs", "must be 0: the log-probabilities of the drawn tokens alone are kept")
        return self._asked(fields, headers, caller, prompt, logprobs is not None, is_chat=False)

    def _asked(
        self,
        fields: _Fields,
        headers: Mapping[str, str],
        caller: Identity,
        prompt: prompts_pb2.Prompt,
        logprobs: bool,
        is_chat: bool,
    ) -> Asked:
        proto = policy_pb2.GenerateRequest(
            app_id=caller.app_id(_header(headers, APP, caller.name or self.app_id), APP),
            generation_id=_header(headers, GENERATION_ID, ""),
            subject_id=fields.take("user", str) or fields.take("safety_identifier", str) or "",
            prompt=prompt,
            sampling=_sampling(fields),
            revision=asked_revision(fields.take("model", str) or "", self.model),
            purpose=_purpose(_header(headers, PURPOSE, "user")),  # type: ignore[arg-type]
        )
        try:
            request = GenerateRequest.from_proto(proto, self.defaults)
        except InvalidInput as error:
            raise _named_as_asked(error, is_chat) from None
        options = fields.take("stream_options", dict) or {}
        is_streaming = fields.take("stream", bool) or False
        return Asked(request, is_chat, is_streaming, logprobs, options.get("include_usage") is True)


class _Fields:
    """The fields of a body; those that are null are absent."""

    def __init__(self, body: Any, known: tuple[str, ...]) -> None:
        if not isinstance(body, dict):
            raise InvalidInput("the body must be an object")
        self.values = {name: value for name, value in body.items() if value is not None}
        for name, value in self.values.items():
            if name in _NEUTRAL:
                if value not in _NEUTRAL[name]:
                    raise InvalidInput.field(name, f"is not supported beyond {_NEUTRAL[name][0]!r}")
            elif name not in known and name not in _WITHOUT_EFFECT:
                raise InvalidInput.field(name[:200], "is not known here")

    def take(self, name: str, kind: type) -> Any:
        """The value, or None; InvalidInput if it is of another kind."""
        value = self.values.get(name)
        if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            raise InvalidInput.field(name, f"must be {_KINDS[kind]}")
        return value

    def integer(self, name: str, highest: int) -> int | None:
        value = self.take(name, int)
        if value is not None and not 0 <= value <= highest:
            raise InvalidInput.field(name, f"must be 0 to {highest}")
        return value

    def number(self, name: str) -> float | None:
        value = self.values.get(name)
        try:
            return self.take(name, float) if not isinstance(value, int) else float(self.take(name, int))
        except OverflowError:
            raise InvalidInput.field(name, "is too large") from None


_KINDS = {bool: "true or false", dict: "an object", float: "a number", int: "an integer", list: "an array", str: "text"}


def _header(headers: Mapping[str, str], name: str, otherwise: str) -> str:
    value = headers.get(name, otherwise)
    if not value.isprintable():  # bytes that are no UTF-8 among them
        raise InvalidInput.field(name, "must be printable characters")
    return value


def _sampling(fields: _Fields) -> generations_pb2.SamplingParameters:
    """Temperature 0 is greedy decoding, which here is drawing from the likeliest token alone."""
    temperature = fields.number("temperature")
    is_greedy = temperature == 0
    return generations_pb2.SamplingParameters(
        max_tokens=_max_tokens(fields),
        temperature=None if is_greedy else temperature,
        top_p=fields.number("top_p"),
        top_k=1 if is_greedy else None,
        seed=fields.integer("seed", MAX_UINT64),
        stop=_stop(fields.values.get("stop")),
        completions=fields.integer("n", MAX_UINT32),
    )


def _max_tokens(fields: _Fields) -> int | None:
    newer, older = (fields.integer(name, MAX_UINT32) for name in ("max_completion_tokens", "max_tokens"))
    if newer is not None and older is not None and newer != older:
        raise InvalidInput.field("max_tokens", "says other than max_completion_tokens; send one of them")
    return older if newer is None else newer


def _stop(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidInput.field("stop", "must be text or an array of texts")
    return texts


def _one_text(value: Any) -> str:
    """The prompt; an array of one text is it too."""
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if not isinstance(value, str):
        raise InvalidInput.field("prompt", "must be one text: a generation has one prompt, and no token ids")
    return value


def _conversation(messages: list[Any] | None) -> prompts_pb2.Conversation:
    if messages is None:
        raise InvalidInput.field("messages", "is missing")
    return prompts_pb2.Conversation(messages=[_message(value, f"messages[{i}]") for i, value in enumerate(messages)])


def _message(value: Any, field: str) -> prompts_pb2.Message:
    if not isinstance(value, dict) or not isinstance(value.get("role"), str):
        raise InvalidInput.field(field, "must be an object with a role")
    if value.get("tool_calls") or value.get("function_call"):
        raise InvalidInput.field(f"{field}.tool_calls", "is not supported")
    role = "system" if value["role"] == "developer" else value["role"]
    return prompts_pb2.Message(role=role, content=_content(value.get("content"), f"{field}.content"))


def _content(value: Any, field: str) -> str:
    """Text, or an array of parts that are text."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in value):
        texts = [part.get("text") for part in value]
        if all(isinstance(text, str) for text in texts):
            return "".join(texts)
    raise InvalidInput.field(field, "must be text, or parts that are text")


def _purpose(name: str) -> int:
    try:
        return int(Purpose[name.upper()])
    except KeyError:
        raise InvalidInput.field(PURPOSE, "must be user or rollout") from None


def _named_as_asked(error: InvalidInput, is_chat: bool) -> InvalidInput:
    """The error with its fields called as this door calls them."""
    name = _renaming(is_chat)
    violations = [FieldViolation(name(v.field), v.description) for v in error.violations]
    return InvalidInput("; ".join(f"{v.field}: {v.description}" for v in violations), violations=violations)


def _renaming(is_chat: bool) -> Callable[[str], str]:
    def name(field: str) -> str:
        field = re.sub(r"^prompt\.(conversation\.|text$)|^sampling\.", "", field)
        return _NAMES.get(field) or field or ("messages" if is_chat else "prompt")

    return name
