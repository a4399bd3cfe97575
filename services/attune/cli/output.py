"""How commands print results: `--json` is one last line of JSON, with the field names of the protos."""

from __future__ import annotations

import json
from typing import Any

import click
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from attune.api.registry.v1 import registry_pb2
from attune.domain.times import from_timestamp


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False))


def print_move(move: registry_pb2.AliasMove, as_json: bool) -> None:
    """An alias's move, as a person reads it or as JSON."""
    if as_json:
        print_json(as_dict(move))
    else:
        before = f" (before: {move.previous_revision})" if move.previous_revision else ""
        click.echo(f"{move.alias} is {move.revision}{before}")


def as_dict(message: Message) -> dict[str, Any]:
    """All fields, empty ones too: numbers as numbers, enums by name, times in seconds; an absent message is None."""
    return {field.name: _value(field, getattr(message, field.name), message) for field in message.DESCRIPTOR.fields}


def _value(field: FieldDescriptor, value: Any, message: Message) -> Any:
    if field.message_type and field.message_type.GetOptions().map_entry:
        return dict(value)
    if field.is_repeated:
        return [_single(field, item) for item in value]
    if field.message_type and not message.HasField(field.name):
        return None
    return _single(field, value)


def _single(field: FieldDescriptor, value: Any) -> Any:
    if isinstance(value, Timestamp):
        return from_timestamp(value)
    if isinstance(value, Message):
        return as_dict(value)
    if field.enum_type:
        return field.enum_type.values_by_number[value].name
    return value
