"""Identifiers: UUIDv7 for generations and events, completion ids made of them."""

from __future__ import annotations

import os
import re
import time
import uuid

from attune.domain.errors import InvalidInput

MAX_COMPLETIONS = 64
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
is_canonical_uuid = re.compile(_UUID).fullmatch
"""Matches what `canonical_uuid` gives back unchanged."""
is_canonical_completion_id = re.compile(f"{_UUID}/(?:[0-9]|[1-5][0-9]|6[0-3])").fullmatch
"""Matches what `parse_completion_id` takes and `completion_id` would write the same."""


def uuid7(now_s: float | None = None) -> str:
    """A new UUID of version 7 (RFC 9562): 48 bits of Unix milliseconds, then random bits; sorts by age."""
    millis = int((time.time() if now_s is None else now_s) * 1000)
    value = (millis & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def uuid_bytes(text: str) -> bytes:
    """The 16 bytes of a UUID, as the databases keep it. ValueError if it is none."""
    return bytes.fromhex(text.replace("-", "")) if is_canonical_uuid(text) else uuid.UUID(text).bytes


def canonical_uuid(text: str, field: str) -> str:
    """The UUID in its one canonical spelling, or InvalidInput that names the field."""
    if is_canonical_uuid(text):
        return text
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise InvalidInput.field(field, "must be a UUID such as 01890a5d-ac96-774b-bcce-b302099a8057") from None


def completion_id(generation_id: str, index: int) -> str:
    return f"{generation_id}/{index}"


def parse_completion_id(text: str, field: str) -> tuple[str, int]:
    """Splits "<generation id>/<index>" into its parts, or InvalidInput that names the field."""
    generation, slash, index = text.partition("/")
    if not slash or not index.isascii() or not index.isdigit() or len(index) > 2 or int(index) >= MAX_COMPLETIONS:
        raise InvalidInput.field(field, "must be <generation id>/<index>, as a generation names its completions")
    return canonical_uuid(generation, field), int(index)
