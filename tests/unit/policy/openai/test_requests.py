"""Bodies of OpenAI's clients: read into what gRPC sends, or refused by field."""

from __future__ import annotations

from typing import Any

import pytest
from attune.domain.access import ANYBODY, Identity, Scope
from attune.domain.errors import InvalidInput, PermissionDenied
from attune.domain.generations import Purpose, Sampling
from attune.domain.prompts import Message
from attune.policy.openai.requests import Asked, Reader
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.policy.serving import MODEL

READER = Reader(MODEL, Sampling(max_tokens=20, temperature=0.9), "default")
USER = {"role": "user", "content": "hello"}
SHOP = Identity("shop", "0" * 12, frozenset([Scope.GENERATE]))


def chat(**body: Any) -> Asked:
    return READER.chat({"messages": [USER]} | body, {}, ANYBODY)


def text(**body: Any) -> Asked:
    return READER.text({"prompt": "hello"} | body, {}, ANYBODY)


def test_what_is_left_out_is_the_servers_default() -> None:
    asked = chat()
    assert asked.request.sampling == READER.defaults
    assert (asked.request.app_id, asked.request.revision, asked.request.purpose) == ("default", "", Purpose.USER)
    assert (asked.is_chat, asked.is_streaming, asked.logprobs, asked.stream_usage) == (True, False, False, False)
    assert chat(n=None, temperature=None, stop=None, stream=None, tools=None, stream_options=None) == asked


def test_sampling_is_read() -> None:
    asked = chat(max_completion_tokens=5, temperature=0.5, top_p=0.9, n=3, seed=2**63, stop=["a", "b"])
    assert asked.request.sampling == Sampling(5, 0.5, 0.9, 0, 2**63, ("a", "b"), 3)
    assert text(max_tokens=7, stop="x").request.sampling == Sampling(7, 0.9, stop=("x",))
    assert chat(temperature=0).request.sampling == Sampling(20, 0.9, top_k=1)
    assert chat(max_tokens=5, max_completion_tokens=5).request.sampling.max_tokens == 5


def test_headers_say_what_openai_has_no_field_for() -> None:
    chosen = "01890a5d-ac96-774b-bcce-b302099a8057"
    headers = {"Attune-App": "shop", "Attune-Generation-Id": chosen, "Attune-Purpose": "rollout"}
    request = READER.chat({"messages": [USER], "user": "ada"}, headers, ANYBODY).request
    assert (request.app_id, request.generation_id, request.purpose) == ("shop", chosen, Purpose.ROLLOUT)
    assert request.subject_id == "ada"
    assert chat(safety_identifier="bob").request.subject_id == "bob"


@pytest.mark.parametrize("headers", [{}, {"Attune-App": ""}, {"Attune-App": "shop"}], ids=["none", "empty", "its own"])
def test_a_key_says_whose_request_it_is(headers: dict[str, str]) -> None:
    assert READER.chat({"messages": [USER]}, headers, SHOP).request.app_id == "shop"
    assert READER.text({"prompt": "hello"}, headers, SHOP).request.app_id == "shop"


def test_a_key_speaks_for_no_other_app() -> None:
    with pytest.raises(PermissionDenied) as raised:
        READER.chat({"messages": [USER]}, {"Attune-App": "forum"}, SHOP)
    assert [v.field for v in raised.value.violations] == ["Attune-App"]


def test_messages_are_text_in_either_form() -> None:
    parts = [{"type": "text", "text": "where "}, {"type": "text", "text": "is it?"}]
    messages = [{"role": "developer", "content": "be kind"}, {"role": "user", "content": parts}]
    assert chat(messages=messages).request.prompt.messages == (
        Message("system", "be kind"),
        Message("user", "where is it?"),
    )


def test_what_changes_nothing_may_be_sent() -> None:
    neutral = {"frequency_penalty": 0.0, "presence_penalty": 0, "logit_bias": {}, "response_format": {"type": "text"}}
    assert chat(**neutral, store=True, metadata={"a": "b"}, service_tier="auto", tool_choice="auto") == chat()
    assert text(echo=False, best_of=1, suffix="") == text()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [1]}, "messages[0]"),
        ({"messages": [USER, {"role": "tool", "content": "x"}]}, "messages[1].role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages[0].content"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": [{}]}]}, "messages[1].tool_calls"),
        ({"messages": [USER, {"role": "assistant", "content": "x"}]}, "messages"),
        ({"n": True}, "n"),
        ({"n": 0}, "n"),
        ({"n": "2"}, "n"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"temperature": 10**400}, "temperature"),
        ({"max_tokens": 2**40}, "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
        ({"stop": 3}, "stop"),
        ({"stop": [3]}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"logprobs": 1}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"prompt": "x"}, "prompt"),
        ({"model": 3}, "model"),
    ],
    ids=range(28),
)
def test_what_does_not_hold_is_refused_by_field(body: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        chat(**body)
    assert [v.field for v in raised.value.violations] == [field]


@pytest.mark.parametrize("prompt", [None, [], ["a", "b"], [1, 2], [[1]], 3, " "], ids=range(7))
def test_a_text_prompt_is_one_text(prompt: Any) -> None:
    with pytest.raises(InvalidInput) as raised:
        text(prompt=prompt)
    assert [v.field for v in raised.value.violations] == ["prompt"]


def test_a_text_request_may_ask_for_the_drawn_tokens_alone() -> None:
    assert text(logprobs=0).logprobs
    assert not text().logprobs
    with pytest.raises(InvalidInput):
        text(logprobs=1)


@pytest.mark.parametrize(
    ("name", "value"), [("Attune-Purpose", "fun"), ("Attune-App", "\udcff"), ("Attune-App", ""), ("Attune-App", "a\tb")]
)
def test_a_header_that_does_not_hold_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        READER.chat({"messages": [USER]}, {name: value}, ANYBODY)
    assert [v.field for v in raised.value.violations] == [name]


names = st.sampled_from(
    ["messages", "prompt", "n", "stop", "temperature", "seed", "logprobs", "stream", "user", "tools"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "type"]), inner),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.dictionaries(names, values) | values)
def test_whatever_comes_is_a_request_or_the_senders_fault(body: Any) -> None:
    for read in (READER.chat, READER.text):
        try:
            assert read(body, {}, ANYBODY).request.prompt
        except InvalidInput as error:
            assert error.message  # noqa: PT017 - both ends are right
