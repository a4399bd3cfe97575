"""The routes of the OpenAI-compatible door: chat completions, completions, and the models that may be asked for.

Behind them is the writer that also answers gRPC: the same checks, batches, priorities and records. A caller must bring
a key for generating, unless the server asks for none, and then speaks for the key's app. A request that fails
before its first token is answered with an HTTP status, a stream that fails later ends with an event that holds the
error and without [DONE]. When the caller goes, the generation is cancelled.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from aiohttp import web

from attune.domain.access import Identity, Scope
from attune.domain.errors import AttuneError, RevisionUnknown
from attune.modeling.revisions import LoadedRevisions
from attune.platform.access.keys import KeyStore
from attune.platform.web.bodies import json_of
from attune.platform.web.server import within
from attune.policy.engines import Policy
from attune.policy.openai.answers import COMPLETION_IDS, GENERATION_ID, REQUEST_ID, REVISION, Answers, headers_of
from attune.policy.openai.models import listed
from attune.policy.openai.refusals import error_body
from attune.policy.openai.requests import Asked, Reader
from attune.policy.writer import Delta, Writer, Written

SHOWN_HEADERS = (GENERATION_ID, REVISION, COMPLETION_IDS, REQUEST_ID)
DONE = b"data: [DONE]\n\n"
Steps = AsyncGenerator[Delta | Written, None]


class OpenAiDoor:
    """See the module. `create_time` tells when a revision was made, by its full name; a stream may take `timeout_s`."""

    def __init__(
        self,
        writer: Writer,
        reader: Reader,
        revisions: LoadedRevisions[Policy],
        create_time: Callable[[str], float],
        *,
        keys: KeyStore,
        timeout_s: float,
    ) -> None:
        self._writer, self._reader, self._revisions = writer, reader, revisions
        self._create_time, self._keys, self._timeout_s = create_time, keys, timeout_s
        self.routes = [
            web.post("/v1/chat/completions", self._chat),
            web.post("/v1/completions", self._text),
            web.get("/v1/models", self._models),
            web.get("/v1/models/{model}", self._model),
        ]

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        caller = self._caller(request)
        return await self._complete(request, self._reader.chat(await json_of(request), request.headers, caller))

    async def _text(self, request: web.Request) -> web.StreamResponse:
        caller = self._caller(request)
        return await self._complete(request, self._reader.text(await json_of(request), request.headers, caller))

    def _caller(self, request: web.Request) -> Identity:
        """Who calls: asked before anything else of the request is read. Unauthenticated, PermissionDenied."""
        return self._keys.identity(request.headers.get("Authorization"), Scope.GENERATE)

    async def _complete(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        # Every revision has the one tokenizer, so that a swap until the admission changes nothing.
        tokenizer = self._revisions.get(asked.request.revision).model.tokenizer if asked.logprobs else None
        answers = Answers(asked, tokenizer)
        async with aclosing(self._writer.write(asked.request, is_streaming=asked.is_streaming)) as steps:
            first = await anext(steps)
            if asked.is_streaming:
                return await self._stream(request, asked, answers, first, steps)
            written = first if isinstance(first, Written) else [step async for step in steps][-1]
        assert isinstance(written, Written)
        generation = written.generation
        headers = headers_of(generation.id, generation.revision, len(generation.completions))
        return web.json_response(answers.whole(written), headers=headers)

    async def _stream(
        self, request: web.Request, asked: Asked, answers: Answers, first: Delta | Written, rest: Steps
    ) -> web.StreamResponse:
        assert isinstance(first, Delta)
        headers = headers_of(first.generation_id, first.revision, asked.request.sampling.completions)
        response = web.StreamResponse(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"} | headers)
        response.content_type = "text/event-stream"
        await response.prepare(request)
        try:
            async with within(self._timeout_s), aclosing(answers.chunks(first, rest)) as chunks:
                async for chunk in chunks:
                    await response.write(_event(chunk))
            await response.write(DONE)
        except AttuneError as error:
            await response.write(_event(error_body(error)))
        except ConnectionResetError:
            pass  # the caller has gone, and the writer hears of it as this returns
        return response

    async def _models(self, request: web.Request) -> web.Response:
        self._caller(request)
        found = [await self._described(name, revision) for name, revision in self._listed().items()]
        return web.json_response({"object": "list", "data": found})

    async def _model(self, request: web.Request) -> web.Response:
        self._caller(request)
        name = request.match_info["model"]
        if (revision := self._listed().get(name)) is None:
            raise RevisionUnknown(f"there is no model {name[:200]!r} here", metadata={"model": name[:200]})
        return web.json_response(await self._described(name, revision))

    def _listed(self) -> dict[str, str]:
        return listed(self._reader.model, self._revisions.aliases, self._revisions.names)

    async def _described(self, name: str, revision: str) -> dict[str, Any]:
        created = int(await asyncio.to_thread(self._create_time, revision))
        return {
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": "attune",
            "attune": {"revision": revision},
        }


def _event(value: dict[str, Any]) -> bytes:
    """A server-sent event; JSON stands on one line."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"
