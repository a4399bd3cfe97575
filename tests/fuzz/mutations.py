"""Damage: bytes cut, turned, repeated and spliced; JSON values put where others belong. All of one source of chance."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

MOST_WOUNDS = 4


def damaged(raw: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """The bytes with one to MOST_WOUNDS wounds; `others` give the pieces that are spliced in."""
    for _ in range(chance.randint(1, MOST_WOUNDS)):
        raw = chance.choice(_WOUNDS)(raw, others, chance)
    return raw


def noise(chance: random.Random, most: int = 200) -> bytes:
    return chance.randbytes(chance.randint(0, most))


def _turn_bits(raw: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    if not raw:
        return raw
    at = chance.randrange(len(raw))
    return raw[:at] + bytes([raw[at] ^ 1 << chance.randrange(8)]) + raw[at + 1 :]


def _put_byte(raw: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    if not raw:
        return raw
    at = chance.randrange(len(raw))
    return raw[:at] + chance.choice((b"\x00", b"\x7f", b"\x80", b"\xff", b'"', b"{", b"]", b"\\")) + raw[at + 1 :]


def _cut(raw: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    return raw[: chance.randint(0, len(raw))]


def _take_out(raw: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    start = chance.randint(0, len(raw))
    return raw[:start] + raw[start + chance.randint(0, 16) :]


def _put_in(raw: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    at = chance.randint(0, len(raw))
    return raw[:at] + noise(chance, 16) + raw[at:]


def _repeat(raw: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    start, end = sorted(chance.randint(0, len(raw)) for _ in range(2))
    return raw[:end] + raw[start:end] * chance.randint(1, 3) + raw[end:]


def _splice(raw: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    other = chance.choice(others)
    return raw[: chance.randint(0, len(raw))] + other[chance.randint(0, len(other)) :]


_WOUNDS: tuple[Callable[[bytes, Sequence[bytes], random.Random], bytes], ...] = (
    _turn_bits, _turn_bits, _put_byte, _cut, _take_out, _put_in, _repeat, _splice,
)  # fmt: skip

_STRANGE: tuple[Any, ...] = (
    None, True, 0, -1, 2**63, 10**400, 0.5, -0.0, 1e308, "", "NaN", "Infinity", "1e400", "\ud800", "\x00", "x" * 300,
    [], {}, [[]], [{}], {"": ""}, {"rating": {}}, "2026-01-01T00:00:00Z", "9999-12-31T23:59:60Z",
)  # fmt: skip


def misshapen(value: Any, chance: random.Random) -> Any:
    """A JSON value with something else at one to MOST_WOUNDS places, or under another name."""
    value = json.loads(json.dumps(value))
    for _ in range(chance.randint(1, MOST_WOUNDS)):
        value = _misshape(value, chance)
    return value


def _misshape(value: Any, chance: random.Random) -> Any:
    inner = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    if not inner or chance.random() < 0.2:
        return _strange(chance)
    key, old = chance.choice(inner)
    if chance.random() < 0.5:
        value[key] = _misshape(old, chance)
    elif isinstance(value, dict) and chance.random() < 0.5:
        value[chance.choice(("", "eventID", "__proto__", "value", "rating", "text"))] = value.pop(key)
    elif chance.random() < 0.5:
        del value[key]
    else:
        value[key] = _strange(chance)
    return value


def _inside(value: Any) -> list[tuple[Any, Any]]:
    """What a JSON value holds, by key or index."""
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list) else []


def _strange(chance: random.Random) -> Any:
    return copy.deepcopy(chance.choice(_STRANGE))
