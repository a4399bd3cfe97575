"""Malformed requests over HTTP: bodies that are no JSON or no event, and bytes that are no HTTP.

A request goes out as bytes on a socket of its own, as no client library would send it. An answer must be a status of
the 400s, or 200 where the body holds after all. None within WAIT_S is right only where the damage may have left the
server with half a request; then the connection is closed.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from fuzz.mutations import damaged, misshapen, noise
from fuzz.verdicts import Verdicts

PATIENCE_S = 30.0
WAIT_S = 0.2
CLOSED, WAITS = "closed", "waits"
HOLDS = frozenset({"200", "409"})
BAD_BODY = frozenset({"400"})
ANY_REFUSAL = frozenset({"400", "401", "403", "404", "405", "408", "411", "413", "414", "415", "417", "431", "505"})


class Request(NamedTuple):
    """Bytes to send, and what may come back. `is_whole` is false where the server may wait for more."""

    damage: str
    raw: bytes
    expected: frozenset[str]
    is_whole: bool = True


def requests(good: Sequence[Any], key: str, token: str, chance: random.Random) -> Iterator[Request]:
    """Requests without end. `good` are events that hold, as JSON values; `key` opens the door, `token` a crack."""
    texts = [json.dumps(event).encode() for event in good]
    kinds: tuple[Callable[[], Request], ...] = (
        lambda: _with_body("damaged body", damaged(chance.choice(texts), texts, chance), key),
        lambda: _with_body("misshapen event", _text(misshapen(chance.choice(good), chance)), key),
        lambda: _with_body("noise", noise(chance), key),
        lambda: _batch(good, key, chance),
        lambda: _damaged_credential(chance.choice(texts), key, token, chance),
        lambda: _damaged_http(chance.choice(texts), key, chance),
    )
    while True:
        yield chance.choices(kinds, weights=(25, 35, 5, 15, 10, 10))[0]()


def _text(value: Any) -> bytes:
    return json.dumps(value).encode()


def _with_body(damage: str, body: bytes, key: str, path: str = "/v1/feedback") -> Request:
    return Request(damage, post(body, key, path), HOLDS | BAD_BODY | {"403"})


def _batch(good: Sequence[Any], key: str, chance: random.Random) -> Request:
    """A batch of events of which some are misshapen is 200 with a status each; one that is no batch is 400."""
    events = [
        misshapen(e, chance) if chance.random() < 0.5 else e for e in chance.choices(good, k=chance.randint(1, 5))
    ]
    if chance.random() < 0.7:
        return Request("batch", post(_text({"events": events}), key, "/v1/feedback:batch"), frozenset({"200", "400"}))
    body = _text(misshapen({"events": events}, chance))
    return Request("misshapen batch", post(body, key, "/v1/feedback:batch"), frozenset({"200", "400"}))


def _damaged_credential(body: bytes, key: str, token: str, chance: random.Random) -> Request:
    credential = damaged(chance.choice((key, token)).encode(), [key.encode(), token.encode()], chance)
    printable = bytes(byte for byte in credential if 0x20 < byte < 0x7F)
    is_known = printable.decode() in (key, token)
    expected = HOLDS | {"403"} if is_known else frozenset({"401"})
    return Request("damaged credential", post(body, printable.decode()), expected)


def _damaged_http(body: bytes, key: str, chance: random.Random) -> Request:
    raw = post(body, key)
    head = raw.index(b"\r\n\r\n")
    hurt = damaged(raw[:head], [raw[:head], b"GET /v1/health HTTP/1.1\r\nHost: x"], chance) + raw[head:]
    if chance.random() < 0.2:
        hurt = noise(chance, 400)
    return Request("damaged HTTP", hurt, ANY_REFUSAL | HOLDS | {WAITS}, is_whole=False)


def post(body: bytes, credential: str, path: str = "/v1/feedback") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: attune\r\nAuthorization: Bearer {credential}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


async def send(host: str, port: int, request: Request, verdicts: Verdicts) -> None:
    """Sends the bytes, reads the answer, and judges its status."""
    status, body = await asyncio.wait_for(_answer(host, port, request), PATIENCE_S)
    verdicts.judge("http", request.damage, status, request.expected, request.raw)
    if status == "200" and body.startswith(b"{"):
        answer = json.loads(body)
        receipts = [answer, *answer.get("results", [])]
        verdicts.acknowledge(receipt.get("receipt", {}).get("eventId", "") for receipt in receipts)


async def _answer(host: str, port: int, request: Request) -> tuple[str, bytes]:
    """Status and body; CLOSED or WAITS where there is no answer."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request.raw)
        await writer.drain()
        try:
            line = await asyncio.wait_for(reader.readline(), PATIENCE_S if request.is_whole else WAIT_S)
        except TimeoutError:
            return WAITS, b""
        if not request.is_whole:
            return (line.split()[1].decode() if line.startswith(b"HTTP/") else CLOSED), b""
        head, _, body = (line + await reader.read()).partition(b"\r\n\r\n")
        return (head.split()[1].decode(), body) if head.startswith(b"HTTP/") else (CLOSED, b"")
    except ConnectionError:
        return CLOSED, b""
    finally:
        writer.close()
