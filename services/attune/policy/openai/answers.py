"""Answers in OpenAI's form, whole or as the chunks of a stream.

`id` is the generation's id and choice i is completion `<id>/<i>`, which is what feedback names. `model` and
`system_fingerprint` say which revision wrote it. The field `attune`, on a whole answer and on the first and the last
chunk of a stream, tells all of it at once. The last chunk leaves once the generation is recorded, or could not be.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from attune.domain.generations import FinishReason, Generation
from attune.domain.ids import completion_id
from attune.policy.openai.models import model_of
from attune.policy.openai.requests import Asked
from attune.policy.text import BROKEN
from attune.policy.writer import Delta, Written

GENERATION_ID, REVISION, COMPLETION_IDS = "Attune-Generation-Id", "Attune-Revision", "Attune-Completion-Ids"
REQUEST_ID = "x-request-id"
"""The header that OpenAI's SDKs show and log as the id of a request."""
_FINISH = {FinishReason.EOS: "stop", FinishReason.STOP_STRING: "stop", FinishReason.LENGTH: "length"}
Json = dict[str, Any]


def headers_of(generation_id: str, revision: str, completions: int) -> dict[str, str]:
    """What the headers of an answer tell, for clients that do not show fields they do not know."""
    ids = ", ".join(completion_id(generation_id, index) for index in range(completions))
    return {GENERATION_ID: generation_id, REVISION: revision, COMPLETION_IDS: ids, REQUEST_ID: generation_id}


class Answers:
    """Writes the answers to one request. `tokenizer` spells tokens, where log-probabilities are asked for."""

    def __init__(self, asked: Asked, tokenizer: PreTrainedTokenizerBase | None) -> None:
        self._asked, self._tokenizer = asked, tokenizer
        self._offsets = [0] * asked.request.sampling.completions

    def whole(self, written: Written) -> Json:
        """The answer to a request that does not stream."""
        generation = written.generation
        kind = "chat.completion" if self._asked.is_chat else "text_completion"
        choices = [
            self._choice(index, c.text, c.token_ids, c.logprobs, c.finish_reason)
            for index, c in enumerate(generation.completions)
        ]
        return {
            **_envelope(kind, generation.id, generation.revision, int(generation.create_time)),
            "choices": choices,
            "usage": usage(generation),
            "attune": self._told(generation.id, generation.revision, written.recorded),
        }

    async def chunks(self, first: Delta | Written, rest: AsyncIterator[Delta | Written]) -> AsyncGenerator[Json, None]:
        """The chunks of a stream, as what the writer gives comes: `first`, which it has given already, and the rest."""
        created, begun = int(time.time()), set[int]()
        open_completions, last = self._asked.request.sampling.completions, Json()
        async for step in _chained(first, rest):
            if isinstance(step, Written):
                told = self._told(step.generation.id, step.generation.revision, step.recorded)
                yield last | {"attune": told}
                if self._asked.stream_usage:
                    yield last | {"choices": [], "usage": usage(step.generation)}
                return
            is_first = step.index not in begun
            if not (is_first or step.text or step.finish_reason or self._tokenizer):
                continue  # tokens whose text is not whole yet
            chunk = self._chunk(step, created, is_first)
            if not begun:
                chunk["attune"] = self._told(step.generation_id, step.revision, None)
            begun.add(step.index)
            open_completions -= step.finish_reason is not None
            if open_completions:
                yield chunk
            else:
                last = chunk

    def _chunk(self, delta: Delta, created: int, is_first: bool) -> Json:
        kind = "chat.completion.chunk" if self._asked.is_chat else "text_completion"
        choice = self._choice(delta.index, delta.text, delta.token_ids, delta.logprobs, delta.finish_reason)
        if self._asked.is_chat:
            del choice["message"]
            choice["delta"] = ({"role": "assistant"} if is_first else {}) | {"content": delta.text}
        chunk = {**_envelope(kind, delta.generation_id, delta.revision, created), "choices": [choice]}
        return chunk | ({"usage": None} if self._asked.stream_usage else {})

    def _choice(
        self, index: int, text: str, ids: Sequence[int], logprobs: Sequence[float], reason: FinishReason | None
    ) -> Json:
        is_chat = self._asked.is_chat
        said = {"message": {"role": "assistant", "content": text, "refusal": None}} if is_chat else {"text": text}
        spelled = None if self._tokenizer is None else [_spelled(self._tokenizer, token) for token in ids]
        told = None
        if spelled is not None:
            told = _chat_logprobs(spelled, logprobs) if is_chat else self._text_logprobs(index, spelled, logprobs)
        return {"index": index, **said, "logprobs": told, "finish_reason": _FINISH.get(reason) if reason else None}

    def _text_logprobs(self, index: int, spelled: Sequence[str], logprobs: Sequence[float]) -> Json:
        offsets = []
        for text in spelled:
            offsets.append(self._offsets[index])
            self._offsets[index] += len(text)
        return {"tokens": spelled, "token_logprobs": list(logprobs), "top_logprobs": None, "text_offset": offsets}

    def _told(self, generation_id: str, revision: str, recorded: bool | None) -> Json:
        """The field `attune`; `recorded` None is not known yet."""
        request = self._asked.request
        told = {
            "app_id": request.app_id,
            "generation_id": generation_id,
            "completion_ids": [completion_id(generation_id, i) for i in range(request.sampling.completions)],
            "revision": revision,
        }
        return told if recorded is None else told | {"recorded": recorded}


def usage(generation: Generation) -> Json:
    """Tokens of the prompt, once, and of all completions, each end-of-sequence token included."""
    prompt = len(generation.prompt_token_ids)
    written = sum(len(c.token_ids) for c in generation.completions)
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


def _envelope(kind: str, generation_id: str, revision: str, created: int) -> Json:
    return {
        "id": generation_id,
        "object": kind,
        "created": created,
        "model": model_of(revision),
        "system_fingerprint": revision,
    }


def _chat_logprobs(spelled: Sequence[str], logprobs: Sequence[float]) -> Json:
    content = [
        {"token": text, "bytes": _bytes(text), "logprob": logprob, "top_logprobs": []}
        for text, logprob in zip(spelled, logprobs, strict=True)
    ]
    return {"content": content, "refusal": None}


def _spelled(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    return str(tokenizer.decode([token], skip_special_tokens=False))


def _bytes(text: str) -> list[int] | None:
    """None for a token that is part of a character."""
    return None if BROKEN in text else list(text.encode())


async def _chained(first: Delta | Written, rest: AsyncIterator[Delta | Written]) -> AsyncIterator[Delta | Written]:
    yield first
    async for step in rest:
        yield step
