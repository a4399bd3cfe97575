"""The HTTP door of ingest: POST /v1/feedback and /v1/feedback:batch, and the OpenAPI document.

A request has been checked by the server it comes through (attune.platform.web.server); here come its credential, its
JSON, the event itself. What comes through goes into the intake, as from gRPC, and is acknowledged by the same rule.
Answers of a batch are 200 with a status an event; anything else says by its code what became of it.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from aiohttp import web
from google.protobuf.message import Message

from attune.api.feedback.v1 import feedback_pb2
from attune.api.types.v1.feedback_pb2 import FeedbackEvent as Event
from attune.domain.errors import AttuneError, InvalidInput
from attune.feedback.ingest.acceptor import Outcome
from attune.feedback.ingest.answers import Answers
from attune.feedback.ingest.caller import Caller
from attune.feedback.ingest.intake import MAX_EVENTS, Intake
from attune.feedback.ingest.web.bodies import read_event, to_json, without_prefix
from attune.feedback.ingest.web.credentials import Credentials
from attune.platform.web.bodies import json_of

OPENAPI = resources.files("attune.feedback.ingest.web").joinpath("openapi.json")


class FeedbackDoor:
    """The routes of the door; an event may wait `timeout_s` for the event log."""

    def __init__(self, intake: Intake, credentials: Credentials, *, timeout_s: float = 10.0) -> None:
        self._intake, self._credentials, self._timeout_s = intake, credentials, timeout_s
        self.routes = [
            web.post("/v1/feedback", self._submit),
            web.post("/v1/feedback:batch", self._submit_batch),
            web.get("/v1/openapi.json", self._openapi),
        ]

    async def _submit(self, request: web.Request) -> web.Response:
        caller = self._caller(request)
        _, (outcome,) = await self._take([await json_of(request)], "event", caller)
        if isinstance(outcome, AttuneError):
            raise without_prefix(outcome, "event.")
        response = feedback_pb2.SubmitFeedbackResponse()
        Answers().receipt(response.receipt, outcome)
        return _json_response(response)

    async def _submit_batch(self, request: web.Request) -> web.Response:
        caller = self._caller(request)
        protos, outcomes = await self._take(_events(await json_of(request)), "events[{}]", caller)
        response, answers = feedback_pb2.IngestFeedbackResponse(), Answers()
        for proto, outcome in zip(protos, outcomes, strict=True):
            answers.result(response.results.add(), proto, outcome)
        return _json_response(response)

    def _caller(self, request: web.Request) -> Caller:
        return self._credentials.caller(request.headers.get("Authorization"))

    async def _take(self, values: list[Any], field: str, caller: Caller) -> tuple[list[Event], list[Outcome]]:
        """Events as they could be read, and what became of each."""
        events: list[Event] = []
        refused: dict[int, AttuneError] = {}
        for index, value in enumerate(values):
            event, unreadable = read_event(value, field.format(index))
            caller.complete(event)
            if (error := unreadable or caller.refusal(event, field.format(index))) is not None:
                refused[index] = error
            events.append(event)
        taken = self._intake.begin(events, field, refused)
        await self._intake.wait(taken, self._timeout_s)
        return events, self._intake.finish(taken)

    async def _openapi(self, request: web.Request) -> web.Response:
        return web.Response(body=OPENAPI.read_bytes(), content_type="application/json")


def _events(value: Any) -> list[Any]:
    """The events of a batch's body."""
    if not isinstance(value, dict) or value.keys() != {"events"} or not isinstance(value["events"], list):
        raise InvalidInput.field("events", "must be an array, and the only field of the body")
    if not 1 <= len(value["events"]) <= MAX_EVENTS:
        raise InvalidInput.field("events", f"must be 1 to {MAX_EVENTS} events")
    return value["events"]


def _json_response(message: Message) -> web.Response:
    return web.Response(text=to_json(message), content_type="application/json")
