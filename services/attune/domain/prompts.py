"""Prompts: bare text or chat messages, their wire form, and the normal form by which they are split.

The split into training and held-out prompts is by hash of the normal form, decided before any training, so that the
same question in other spacing or case never stands on both sides.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from attune.api.types.v1 import prompts_pb2
from attune.domain.errors import InvalidInput

ROLES = ("system", "user", "assistant")
MAX_PROMPT_CHARACTERS = 1_000_000


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class Prompt:
    """What the model is asked to go on from: exactly one of `text` and `messages` is set."""

    text: str | None = None
    messages: tuple[Message, ...] = ()

    @classmethod
    def user(cls, content: str) -> Prompt:
        """A conversation of one user turn, the usual case."""
        return cls(messages=(Message("user", content),))

    @property
    def normal_form(self) -> str:
        """Lower case, single spaces; turns as lines of role and content."""
        parts = [self.text] if self.text is not None else [f"{m.role}: {m.content}" for m in self.messages]
        return "\n".join(" ".join(part.casefold().split()) for part in parts)

    @property
    def hash(self) -> str:
        """SHA-256 of the normal form, hexadecimal."""
        return hashlib.sha256(self.normal_form.encode()).hexdigest()

    def as_chat(self) -> str | list[dict[str, str]]:
        """The plain form that tokenizers take: the text, or a list of role and content."""
        if self.text is not None:
            return self.text
        return [{"role": m.role, "content": m.content} for m in self.messages]

    def to_proto(self) -> prompts_pb2.Prompt:
        if self.text is not None:
            return prompts_pb2.Prompt(text=self.text)
        turns = [prompts_pb2.Message(role=m.role, content=m.content) for m in self.messages]
        return prompts_pb2.Prompt(conversation=prompts_pb2.Conversation(messages=turns))

    @classmethod
    def from_proto(cls, proto: prompts_pb2.Prompt, field: str = "prompt") -> Prompt:
        """Validates as it reads; InvalidInput names the field below `field`."""
        form = proto.WhichOneof("input")
        if form is None:
            raise InvalidInput.field(field, "set text or conversation")
        if form == "text":
            _check_content(proto.text, f"{field}.text")
            return cls(text=proto.text)
        if not proto.conversation.messages:
            raise InvalidInput.field(f"{field}.conversation.messages", "needs at least one message")
        for i, message in enumerate(proto.conversation.messages):
            where = f"{field}.conversation.messages[{i}]"
            if message.role not in ROLES:
                raise InvalidInput.field(f"{where}.role", f"must be one of {', '.join(ROLES)}")
            _check_content(message.content, f"{where}.content")
        if proto.conversation.messages[-1].role == "assistant":
            raise InvalidInput.field(f"{field}.conversation.messages", "the last message must not be the assistant's")
        return cls(messages=tuple(Message(m.role, m.content) for m in proto.conversation.messages))


def conversation_from_json(text: str, field: str) -> prompts_pb2.Conversation:
    """The conversation that a JSON array of objects with role and content is; InvalidInput that names `field`.

    Roles and contents are checked where the prompt is read.
    """
    try:
        turns = json.loads(text)
    except (ValueError, RecursionError):
        turns = None
    if not isinstance(turns, list) or not all(_is_turn(turn) for turn in turns):
        raise InvalidInput.field(field, "must be a JSON array of objects with role and content, both text")
    return prompts_pb2.Conversation(messages=[prompts_pb2.Message(**turn) for turn in turns])


def _is_turn(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"role", "content"} and all(map(_is_text, value.values()))


def _is_text(value: Any) -> bool:
    """Whether it is text; half a surrogate pair is none."""
    return isinstance(value, str) and value == value.encode(errors="replace").decode()


def is_held_out(prompt_hash: str, share: float) -> bool:
    """Whether a prompt belongs to the held-out `share` (in [0, 1]) by its hash; the same answer for ever."""
    return int(prompt_hash[:8], 16) < share * 2**32


def _check_content(text: str, field: str) -> None:
    if not text.strip():
        raise InvalidInput.field(field, "must not be empty")
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise InvalidInput.field(field, f"must have at most {MAX_PROMPT_CHARACTERS} characters")
