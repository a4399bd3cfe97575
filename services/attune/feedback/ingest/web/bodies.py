"""Bodies of requests and answers: the JSON mapping of protobuf, read strictly.

Refused: fields that the contract does not have. An event that cannot be read is refused by itself, so that a batch may
hold others.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import MessageToJson, ParseDict, ParseError
from google.protobuf.message import Message

from attune.api.types.v1 import feedback_pb2
from attune.domain.errors import AttuneError, FieldViolation, InvalidInput


def read_event(value: Any, field: str) -> tuple[feedback_pb2.FeedbackEvent, InvalidInput | None]:
    """The event of a JSON value, and why it cannot be read, if so; then the event holds nothing."""
    if not isinstance(value, dict):
        return feedback_pb2.FeedbackEvent(), InvalidInput.field(field, "must be an object")
    try:
        return ParseDict(value, feedback_pb2.FeedbackEvent()), None
    except (ParseError, OverflowError, RecursionError) as error:
        return feedback_pb2.FeedbackEvent(), InvalidInput.field(field, f"is no FeedbackEvent: {error}")


def to_json(message: Message) -> str:
    """A message as JSON, fields that are not set included, on one line."""
    return MessageToJson(message, indent=None, always_print_fields_with_no_presence=True)


def without_prefix(error: AttuneError, prefix: str) -> AttuneError:
    """The error with its fields named from inside `prefix`, for a body that is the event itself."""
    if not error.violations:
        return error
    violations = [FieldViolation(v.field.removeprefix(prefix), v.description) for v in error.violations]
    return type(error)("; ".join(f"{v.field}: {v.description}" for v in violations), violations=violations)
