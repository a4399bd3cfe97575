"""Bodies of requests: JSON, read strictly.

Refused: what is no UTF-8 or no JSON, NaN and Infinity as bare words, a name twice in one object.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from aiohttp import web

from attune.domain.errors import InvalidInput


async def json_of(request: web.Request) -> Any:
    """The value of a request's body. InvalidInput; HTTPUnsupportedMediaType for what does not say it is JSON."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(reason="send application/json")
    return read_json(await request.read())


def read_json(raw: bytes) -> Any:
    """The value of a body, or InvalidInput."""
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
        if b"\\u" in raw:  # half a surrogate pair is JSON and no text
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except InvalidInput:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the body is no JSON: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidInput("the body names a field twice in one object")
    return found


def _no_constant(word: str) -> NoReturn:
    raise InvalidInput(f"the body is no JSON: {word} is no value")
