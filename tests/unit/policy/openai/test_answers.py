"""The forms of answers: what a chunk holds, what is held back, and offsets of tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from attune.domain.generations import Completion, FinishReason, GenerateRequest, Generation, Purpose, Sampling
from attune.domain.prompts import Prompt
from attune.policy.openai.answers import Answers, headers_of, usage
from attune.policy.openai.requests import Asked
from attune.policy.writer import Delta, Written
from tiny_models import tiny_tokenizer

ID, REVISION = "01890a5d-ac96-774b-bcce-b302099a8057", "policies/support/revisions/3"
TOKENIZER = tiny_tokenizer()


def asked(completions: int = 1, *, is_chat: bool = True, logprobs: bool = False, usage: bool = False) -> Asked:
    request = GenerateRequest("shop", Prompt.user("hi"), Sampling(completions=completions))
    return Asked(request, is_chat, True, logprobs, usage)


def delta(text: str, index: int = 0, reason: FinishReason | None = None) -> Delta:
    return Delta(ID, REVISION, index, text, (7,), (-0.5,), reason)


def written(*texts: str) -> Written:
    ids = tuple(TOKENIZER("order")["input_ids"])
    completions = tuple(
        Completion(f"{ID}/{i}", text, ids, (-0.5,) * len(ids), FinishReason.EOS, ()) for i, text in enumerate(texts)
    )
    prompt = Prompt.user("hi")
    return Written(
        Generation(ID, "shop", "", prompt, (1, 2), completions, REVISION, Sampling(), Purpose.USER, 1e9), True
    )


async def after(*steps: Delta | Written) -> AsyncIterator[Delta | Written]:
    for step in steps:
        yield step


async def chunks(what: Asked, first: Delta, *steps: Delta | Written) -> list[dict]:
    answers = Answers(what, TOKENIZER if what.logprobs else None)
    return [chunk async for chunk in answers.chunks(first, after(*steps))]


async def test_the_first_and_the_last_chunk_tell_all() -> None:
    first, middle, last = await chunks(
        asked(), delta("a"), delta("b"), delta("c", reason=FinishReason.LENGTH), written("abc")
    )
    assert first["attune"]["completion_ids"] == [f"{ID}/0"]
    assert "recorded" not in first["attune"]
    assert "attune" not in middle
    assert last["attune"]["recorded"] is True
    assert last["choices"][0]["finish_reason"] == "length"


async def test_the_last_chunk_waits_for_the_record() -> None:
    answers = Answers(asked(2), None)
    stream = answers.chunks(
        delta("a", reason=FinishReason.EOS), after(delta("b", 1, FinishReason.STOP_STRING), written("a", "b"))
    )
    first = await anext(stream)
    assert (first["choices"][0]["index"], first["choices"][0]["finish_reason"]) == (0, "stop")
    last = await anext(stream)
    assert (last["choices"][0]["index"], last["attune"]["recorded"]) == (1, True)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_tokens_without_whole_text_wait_unless_their_probabilities_are_asked_for() -> None:
    steps = delta("a"), delta(""), delta("b", reason=FinishReason.EOS), written("ab")
    assert len(await chunks(asked(), *steps)) == 2
    assert len(await chunks(asked(logprobs=True), *steps)) == 3


async def test_usage_comes_alone_at_the_end() -> None:
    steps = delta("a", reason=FinishReason.EOS), written("a")
    *_, last = await chunks(asked(usage=True), *steps)
    assert (last["choices"], last["usage"]) == ([], usage(steps[1].generation))


def test_text_offsets_count_characters() -> None:
    answer = Answers(asked(is_chat=False, logprobs=True), TOKENIZER).whole(written("order"))
    told = answer["choices"][0]["logprobs"]
    assert "".join(told["tokens"]) == "order"
    lengths = [len(token) for token in told["tokens"]]
    assert told["text_offset"] == [sum(lengths[:i]) for i in range(len(lengths))]


def test_a_token_that_is_part_of_a_character_has_no_bytes() -> None:
    (part, *_) = TOKENIZER("\N{SNOWMAN}")["input_ids"]
    completion = Completion(f"{ID}/0", "", (part,), (-1.0,), FinishReason.LENGTH, ())
    generation = Generation(
        ID, "shop", "", Prompt.user("hi"), (1,), (completion,), REVISION, Sampling(), Purpose.USER, 1e9
    )
    answer = Answers(asked(logprobs=True), TOKENIZER).whole(Written(generation, False))
    assert answer["choices"][0]["logprobs"]["content"][0]["bytes"] is None


def test_headers_name_the_completions() -> None:
    assert headers_of(ID, REVISION, 2)["Attune-Completion-Ids"] == f"{ID}/0, {ID}/1"
