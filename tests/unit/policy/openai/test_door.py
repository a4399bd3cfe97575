"""The door called by OpenAI's own SDK, over a socket, before a real engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from attune.domain.errors import AttuneError, ServerUnavailable
from attune.domain.generations import GenerateRequest
from attune.domain.ids import uuid7
from attune.platform.access.keys import KeyStore, new_key, write_keys
from attune.policy.openai.requests import APP
from attune.policy.writer import Delta
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from support.eventually import eventually
from unit.policy.openai.conftest import Opened, opened
from unit.policy.serving import Server, recomputed

ASKED = "Where is my order?"
MESSAGES: Any = [{"role": "user", "content": ASKED}]
REVISION = "policies/support/revisions/1"


async def chat(door: Opened, **options: Any) -> ChatCompletion:
    return await door.openai.chat.completions.create(model="support", messages=MESSAGES, **options)


async def streamed(door: Opened, **options: Any) -> list[ChatCompletionChunk]:
    stream = await door.openai.chat.completions.create(model="support", messages=MESSAGES, stream=True, **options)
    return [chunk async for chunk in stream]


def text_of(chunks: list[ChatCompletionChunk], index: int = 0) -> str:
    return "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices if c.index == index)


async def test_an_answer_names_what_feedback_is_sent_for(door: Opened) -> None:
    raw = await door.openai.chat.completions.with_raw_response.create(
        model="support", messages=MESSAGES, n=2, user="ada", temperature=0.8
    )
    answer = raw.parse()
    (generation,) = door.server.recorded()
    assert (answer.id, answer.model, answer.system_fingerprint) == (generation.id, "support@1", REVISION)
    assert [choice.message.content for choice in answer.choices] == [c.text for c in generation.completions]
    assert (generation.app_id, generation.subject_id, generation.sampling.temperature) == ("test", "ada", 0.8)
    ids = [c.id for c in generation.completions]
    assert answer.attune == {  # type: ignore[attr-defined]
        "app_id": "test",
        "generation_id": generation.id,
        "completion_ids": ids,
        "revision": REVISION,
        "recorded": True,
    }
    assert raw.headers["attune-generation-id"] == answer._request_id == generation.id
    assert raw.headers["attune-revision"] == REVISION
    assert raw.headers["attune-completion-ids"].split(", ") == ids


async def test_it_says_what_grpc_would_have_said(door: Opened) -> None:
    over_grpc = (await door.server.client.generate(ASKED, completions=3, seed=7, temperature=0.7)).generation
    answer = await chat(door, n=3, seed=7, temperature=0.7, max_completion_tokens=12)
    assert [c.message.content for c in answer.choices] == [c.text for c in over_grpc.completions]
    assert answer.usage
    assert answer.usage.prompt_tokens == len(over_grpc.prompt_token_ids)
    assert answer.usage.completion_tokens == sum(len(c.token_ids) for c in over_grpc.completions)


async def test_log_probabilities_are_those_of_the_revision(door: Opened) -> None:
    answer = await chat(door, logprobs=True, seed=3)
    (generation,) = door.server.recorded()
    assert answer.choices[0].logprobs
    content = answer.choices[0].logprobs.content or []
    live = door.server.shop.revisions.loaded.get().model
    assert [entry.logprob for entry in content] == pytest.approx(recomputed(live, generation), abs=1e-5)
    assert answer.usage
    assert len(content) == answer.usage.completion_tokens


async def test_greedy_decoding_is_temperature_0(door: Opened) -> None:
    answers = [await chat(door, temperature=0, seed=seed) for seed in (1, 2)]
    assert answers[0].choices[0].message.content == answers[1].choices[0].message.content
    assert {generation.sampling.top_k for generation in door.server.recorded()} == {1}


async def test_stop_strings_and_limits_end_a_choice(door: Opened) -> None:
    plain = await chat(door, seed=9, n=8)
    choice = next(c for c in plain.choices if len(c.message.content or "") > 2)
    stop = (choice.message.content or "")[1]
    cut = (await chat(door, seed=9, n=8, stop=stop)).choices[choice.index]
    assert (cut.message.content, cut.finish_reason) == ((choice.message.content or "").partition(stop)[0], "stop")
    one = await chat(door, max_tokens=1, n=8)
    assert "length" in {c.finish_reason for c in one.choices}


async def test_a_stream_gives_what_the_whole_answer_gives(door: Opened) -> None:
    whole = await chat(door, n=3, seed=5, logprobs=True)
    chunks = await streamed(door, n=3, seed=5, logprobs=True, stream_options={"include_usage": True})
    for choice in whole.choices:
        assert text_of(chunks, choice.index) == choice.message.content
        mine = [c for chunk in chunks for c in chunk.choices if c.index == choice.index]
        assert [c.finish_reason for c in mine if c.finish_reason] == [choice.finish_reason]
        assert [c.delta.role for c in mine] == ["assistant"] + [None] * (len(mine) - 1)
        told = [entry for c in mine if c.logprobs for entry in c.logprobs.content or []]
        assert choice.logprobs
        assert told == choice.logprobs.content
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({(chunk.id, chunk.system_fingerprint) for chunk in chunks}) == 1


async def test_a_streamed_answer_is_recorded_before_its_last_chunk(door: Opened) -> None:
    stream = await door.openai.chat.completions.create(model="support", messages=MESSAGES, stream=True)
    async for chunk in stream:
        if chunk.choices[0].finish_reason:
            (generation,) = door.server.recorded()
            assert chunk.id == generation.id
            assert chunk.attune["recorded"] is True  # type: ignore[attr-defined]
            break
    await stream.close()
    assert stream.response.headers["attune-completion-ids"] == f"{generation.id}/0"


async def test_the_sdk_puts_a_stream_together(door: Opened) -> None:
    async with door.openai.chat.completions.stream(model="support", messages=MESSAGES, seed=5) as stream:
        async for _ in stream:
            pass
        final = stream.current_completion_snapshot
    assert final.choices[0].message.content == (await chat(door, seed=5)).choices[0].message.content


async def test_bare_text_is_gone_on_from(door: Opened) -> None:
    answer = await door.openai.completions.create(model="support", prompt="Where is", logprobs=0, seed=1, n=2)
    (generation,) = door.server.recorded()
    assert generation.prompt.text == "Where is"
    assert (answer.id, answer.object) == (generation.id, "text_completion")
    assert [choice.text for choice in answer.choices] == [c.text for c in generation.completions]
    told = answer.choices[0].logprobs
    assert told
    assert told.token_logprobs == pytest.approx(generation.completions[0].logprobs)
    assert told.text_offset
    assert told.text_offset[0] == 0
    stream = await door.openai.completions.create(model="support", prompt=["Where is"], seed=1, n=2, stream=True)
    chunks = [chunk async for chunk in stream]
    for index in (0, 1):
        text = "".join(c.text for chunk in chunks for c in chunk.choices if c.index == index)
        assert text == answer.choices[index].text


async def test_models_are_aliases_and_numbers(door: Opened) -> None:
    two = door.server.shop.publish()
    door.server.shop.revisions.preload(two, 0)
    found = [model async for model in door.openai.models.list()]
    assert [model.id for model in found] == ["support", "support@1", "support@2"]
    assert found[0].attune == {"revision": REVISION}  # type: ignore[attr-defined]
    assert found[0].created > 1_700_000_000
    assert (await door.openai.models.retrieve("support@2")).attune == {"revision": two}  # type: ignore[attr-defined]
    answer = await door.openai.chat.completions.create(model="support@2", messages=MESSAGES)
    assert answer.system_fingerprint == two
    with pytest.raises(openai.NotFoundError) as raised:
        await door.openai.models.retrieve("gpt")
    assert raised.value.code == "model_not_found"


async def test_a_swap_is_seen_in_the_next_answer(door: Opened) -> None:
    stream = await door.openai.chat.completions.create(model="support", messages=MESSAGES, stream=True, max_tokens=40)
    chunks = [await anext(stream)]
    await door.server.shop.promote(door.server.shop.publish())
    assert (await chat(door)).model == "support@2"
    chunks += [chunk async for chunk in stream]
    assert {chunk.model for chunk in chunks} == {"support@1"}


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": 0.001}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 65}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": [""]}, "stop"),
        ({"user": "x" * 300}, "user"),
        ({"extra_headers": {"Attune-Generation-Id": "seven"}}, "Attune-Generation-Id"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"logprobs": True, "top_logprobs": 3}, "top_logprobs"),
        ({"extra_body": {"surprise": 1}}, "surprise"),
    ],
    ids=range(11),
)
async def test_a_bad_request_names_its_parameter(door: Opened, options: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await chat(door, **options)
    assert (raised.value.param, raised.value.type) == (param, "invalid_request_error")
    assert door.server.recorded() == []


async def test_errors_have_the_class_that_the_sdk_gives_them(door: Opened) -> None:
    with pytest.raises(openai.NotFoundError, match="support@"):
        await door.openai.chat.completions.create(model="gpt", messages=MESSAGES)
    with pytest.raises(openai.BadRequestError) as too_long:
        await door.openai.completions.create(model="support", prompt=ASKED * 40, stream=True)
    assert too_long.value.code == "context_length_exceeded"
    chosen = {"Attune-Generation-Id": uuid7()}
    assert (await chat(door, extra_headers=chosen)).id == chosen["Attune-Generation-Id"]
    with pytest.raises(openai.ConflictError) as used:
        await chat(door, extra_headers=chosen)
    assert used.value.response.headers["x-should-retry"] == "false"
    with pytest.raises(openai.NotFoundError):
        await door.openai.embeddings.create(model="support", input="x")
    door.server.shop.revisions.loaded._aliases.clear()
    with pytest.raises(openai.InternalServerError) as nothing:
        await chat(door)
    assert (nothing.value.status_code, nothing.value.code) == (503, "no_revision")


async def test_a_full_queue_is_a_rate_limit(door: Opened) -> None:
    door.server.engine.pause("so that it fills")
    waiting = [asyncio.create_task(chat(door, n=64)) for _ in range(16)]
    await eventually(lambda: door.server.engine.queued_completions == 1024)
    with pytest.raises(openai.RateLimitError) as raised:
        await chat(door)
    assert raised.value.response.headers["retry-after"] == "1"
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await eventually(lambda: door.server.engine.queued_completions == 0)
    door.server.engine.resume()


async def test_what_cannot_be_done_in_time_is_refused_at_once_and_told_to_come_back(door: Opened) -> None:
    door.server.engine._queue.pace.saw_turn(100.0)  # seconds a token, of which the door gives 60 to a request
    door.server.engine._queue.pace.saw_end(1, 1)
    door.server.engine.pause("so that one waits")
    waiting = asyncio.create_task(chat(door))
    await eventually(lambda: door.server.engine.queued_completions == 1)
    with pytest.raises(openai.InternalServerError) as raised:
        await chat(door)
    assert (raised.value.status_code, raised.value.code) == (503, "deadline_unattainable")
    assert int(raised.value.response.headers["retry-after"]) >= 1
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await eventually(lambda: door.server.engine.queued_completions == 0)
    door.server.engine.resume()


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_a_caller_who_goes_cancels_what_waits(door: Opened, is_streaming: bool) -> None:
    door.server.engine.pause("so that it waits")
    asked = asyncio.create_task(streamed(door, n=4) if is_streaming else chat(door, n=4))
    await eventually(lambda: door.server.engine.queued_completions == 4)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    await eventually(lambda: door.server.engine.queued_completions == 0)
    assert cancelled(door.server) == 1
    door.server.engine.resume()


async def test_a_caller_who_leaves_a_stream_cancels_what_is_written(door: Opened) -> None:
    stream = await door.openai.chat.completions.create(
        model="support", messages=MESSAGES, stream=True, n=64, max_tokens=48, logprobs=True
    )
    await anext(stream)
    await stream.close()
    await eventually(lambda: cancelled(door.server) == 1)
    await eventually(lambda: door.server.engine.running_completions == 0)
    assert door.server.recorded() == []


def cancelled(server: Server) -> float:
    return server.shop.sample("attune_generation_requests_total", purpose="user", outcome="cancelled")


class OneToken:
    """A writer that gives one token, and then `error` or nothing more."""

    def __init__(self, error: AttuneError | None) -> None:
        self._error = error

    async def write(self, request: GenerateRequest, *, is_streaming: bool) -> AsyncGenerator[Delta, None]:
        yield Delta(uuid7(), REVISION, 0, "a", (7,), (-0.5,), None)
        if self._error:
            raise self._error
        await asyncio.Event().wait()


@pytest.mark.parametrize(("error", "said"), [(ServerUnavailable("going down"), "going down"), (None, "time was over")])
async def test_a_stream_that_fails_on_its_way_says_so_and_is_not_done(
    server: Server, error: AttuneError | None, said: str
) -> None:
    server.writer = OneToken(error)  # type: ignore[assignment]
    async with opened(server, timeout_s=0.5) as door:
        stream = await door.openai.chat.completions.create(model="support", messages=MESSAGES, stream=True)
        assert (await anext(stream)).choices[0].delta.content == "a"
        with pytest.raises(openai.APIError, match=said):
            await anext(stream)


async def test_a_rollout_goes_behind_users_and_leaves_no_record(door: Opened) -> None:
    answer = await chat(door, extra_headers={"Attune-Purpose": "rollout"})
    assert answer.attune["recorded"] is False  # type: ignore[attr-defined]
    assert door.server.recorded() == []
    assert door.server.shop.sample("attune_generation_requests_total", purpose="rollout", outcome="written") == 1


async def test_events_are_on_the_wire_as_the_protocol_has_them(door: Opened) -> None:
    body = {"messages": MESSAGES, "stream": True, "max_tokens": 2}
    async with aiohttp.ClientSession() as session, session.post(f"{door.url}/chat/completions", json=body) as response:
        assert response.content_type == "text/event-stream"
        text = (await response.read()).decode()
    events = text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(event.startswith("data: {") for event in events[:-2])
    (generation,) = door.server.recorded()
    assert generation.app_id == "default"


SHOP, SHOP_KEPT = new_key("shop", ["generate", "feedback"])
SCORER, SCORER_KEPT = new_key("shop", ["score"])
OPERATOR, OPERATOR_KEPT = new_key("ana", ["control"])


@pytest.fixture
async def guarded(server: Server, tmp_path: Path) -> AsyncIterator[Opened]:
    write_keys(tmp_path / "keys.json", [SHOP_KEPT, SCORER_KEPT, OPERATOR_KEPT])
    async with opened(server, keys=KeyStore(tmp_path / "keys.json")) as door:
        yield door


async def test_a_key_speaks_for_its_app_and_need_not_name_it(guarded: Opened) -> None:
    shop = guarded.openai.with_options(api_key=SHOP, set_default_headers={})
    answer = await shop.chat.completions.create(model="support", messages=MESSAGES)
    assert answer.attune["app_id"] == "shop"  # type: ignore[attr-defined]
    await shop.completions.create(model="support", prompt="Where is", extra_headers={APP: "shop"})
    assert {generation.app_id for generation in guarded.server.recorded()} == {"shop"}
    assert [model.id async for model in shop.models.list()] == ["support", "support@1"]
    with pytest.raises(openai.PermissionDeniedError) as raised:
        await shop.chat.completions.create(model="support", messages=MESSAGES, extra_headers={APP: "forum"})
    assert (raised.value.param, raised.value.type) == (APP, "permission_error")
    assert len(guarded.server.recorded()) == 2


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "chat/completions"), ("POST", "completions"), ("GET", "models"), ("GET", "models/support")],
)
@pytest.mark.parametrize(
    ("authorization", "status", "kind"),
    [
        (None, 401, "authentication_error"),
        (SHOP, 401, "authentication_error"),
        (f"Bearer {SHOP}x", 401, "authentication_error"),
        (f"Bearer {SCORER}", 403, "permission_error"),
        (f"Bearer {OPERATOR}", 403, "permission_error"),
    ],
    ids=["no key", "no scheme", "wrong key", "other scope", "operator"],
)
async def test_a_request_without_the_right_key_is_not_even_read(
    guarded: Opened, method: str, path: str, authorization: str | None, status: int, kind: str
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.request(method, f"{guarded.url}/{path}", data=b"no JSON") as response,
    ):
        answer = await response.json()
        assert (response.status, answer["error"]["type"]) == (status, kind)
        assert response.headers.get("WWW-Authenticate") == ("Bearer" if status == 401 else None)


async def test_health_asks_for_no_key(guarded: Opened) -> None:
    guarded.http.set_serving(True)
    async with aiohttp.ClientSession() as session, session.get(f"{guarded.url}/health") as response:
        assert response.status == 200
