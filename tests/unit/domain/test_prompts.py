"""Prompts: what is accepted comes back whole, what is not is refused by field, and the split is by normal form."""

from __future__ import annotations

import json

import pytest
from attune.api.types.v1 import prompts_pb2
from attune.domain.errors import InvalidInput
from attune.domain.prompts import MAX_PROMPT_CHARACTERS, Message, Prompt, conversation_from_json, is_held_out
from hypothesis import given
from hypothesis import strategies as st
from unit.domain.made import prompts


@given(prompts)
def test_round_trip(prompt: Prompt) -> None:
    assert Prompt.from_proto(prompt.to_proto()) == prompt


def conversation(*turns: tuple[str, str]) -> prompts_pb2.Prompt:
    messages = [prompts_pb2.Message(role=role, content=content) for role, content in turns]
    return prompts_pb2.Prompt(conversation=prompts_pb2.Conversation(messages=messages))


@pytest.mark.parametrize(
    ("proto", "field"),
    [
        (prompts_pb2.Prompt(), "prompt"),
        (prompts_pb2.Prompt(text=""), "prompt.text"),
        (prompts_pb2.Prompt(text=" \n"), "prompt.text"),
        (prompts_pb2.Prompt(text="x" * (MAX_PROMPT_CHARACTERS + 1)), "prompt.text"),
        (conversation(), "prompt.conversation.messages"),
        (conversation(("wizard", "hm")), "prompt.conversation.messages[0].role"),
        (conversation(("user", "hi"), ("user", "")), "prompt.conversation.messages[1].content"),
        (conversation(("user", "hi"), ("assistant", "hello")), "prompt.conversation.messages"),
    ],
)
def test_refused_by_field(proto: prompts_pb2.Prompt, field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        Prompt.from_proto(proto)
    assert [v.field for v in raised.value.violations] == [field]


def test_the_normal_form_forgets_case_and_spacing_and_nothing_else() -> None:
    assert Prompt.user("Where  is\nit?").hash == Prompt.user("where is it?").hash
    assert Prompt.user("where is it?").hash != Prompt.user("where is it").hash
    assert Prompt.user("where is it?").hash != Prompt(text="where is it?").hash
    two = Prompt(messages=(Message("user", "a"), Message("user", "b")))
    assert two.normal_form == "user: a\nuser: b"


def test_as_chat() -> None:
    assert Prompt(text="hi").as_chat() == "hi"
    assert Prompt.user("hi").as_chat() == [{"role": "user", "content": "hi"}]


@given(st.floats(0, 1), st.floats(0, 1), prompts)
def test_a_larger_share_holds_out_more(a: float, b: float, prompt: Prompt) -> None:
    low, high = sorted((a, b))
    assert is_held_out(prompt.hash, high) >= is_held_out(prompt.hash, low)


def test_the_share_is_about_what_is_asked() -> None:
    held_out = sum(is_held_out(Prompt.user(f"question {i}").hash, 0.2) for i in range(4000))
    assert held_out / 4000 == pytest.approx(0.2, abs=0.03)
    assert not any(is_held_out(Prompt.user(f"question {i}").hash, 0.0) for i in range(100))
    assert all(is_held_out(Prompt.user(f"question {i}").hash, 1.0) for i in range(100))


@given(prompts)
def test_a_conversation_is_read_from_json(prompt: Prompt) -> None:
    text = json.dumps([{"role": m.role, "content": m.content} for m in prompt.messages])
    assert conversation_from_json(text, "messages") == prompt.to_proto().conversation


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        "[" * 100_000,
        '[{"role": "user"}]',
        '[{"role": "user", "content": 3}]',
        '[{"role": "user", "content": "\\ud800"}]',
        '[{"role": "user", "content": "x", "name": "ada"}]',
    ],
    ids=range(8),
)
def test_what_is_no_conversation_is_refused_by_field(text: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        conversation_from_json(text, "messages")
    assert [v.field for v in raised.value.violations] == ["messages"]
