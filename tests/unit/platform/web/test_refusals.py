"""Errors over HTTP."""

from __future__ import annotations

import json

import pytest
from aiohttp import web
from attune.client.errors import from_status
from attune.domain.errors import BY_REASON, AttuneError, InvalidInput, QueueFull, TokenExpired, Unauthenticated
from attune.platform.web.refusals import HTTP_STATUS, refusal, refusal_of_http, refused
from google.protobuf.json_format import Parse
from google.rpc import status_pb2


@pytest.mark.parametrize("cls", BY_REASON.values(), ids=BY_REASON)
def test_every_error_keeps_its_reason_and_has_a_status(cls: type[AttuneError]) -> None:
    response = refusal(cls("words"))
    assert response.status == HTTP_STATUS.get(cls.status, 500)
    assert 400 <= response.status < 600
    assert type(from_status(Parse(response.text, status_pb2.Status()))) is cls


def test_only_errors_of_our_own_are_500() -> None:
    assert {cls.status for cls in BY_REASON.values() if cls.status not in HTTP_STATUS} == {"INTERNAL", "DATA_LOSS"}


def test_fields_and_waits_are_told() -> None:
    response = refusal(InvalidInput.field("rating.value", "must be less"))
    details = {detail["@type"].rpartition(".")[2]: detail for detail in json.loads(response.text)["details"]}
    assert details["BadRequest"]["fieldViolations"] == [{"field": "rating.value", "description": "must be less"}]
    assert refusal(QueueFull("full", retry_after_s=0.2)).headers["Retry-After"] == "1"
    assert "Retry-After" not in response.headers


@pytest.mark.parametrize("cls", [Unauthenticated, TokenExpired])
def test_who_is_not_known_is_told_what_to_send(cls: type[AttuneError]) -> None:
    assert refusal(cls("who?")).headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (web.HTTPNotFound(), 404, 5),
        (web.HTTPMethodNotAllowed("GET", ["POST"]), 405, 12),
        (web.HTTPRequestEntityTooLarge(1, 2), 413, 3),
        (web.HTTPUnsupportedMediaType(), 415, 3),
    ],
    ids=[404, 405, 413, 415],
)
def test_what_http_refuses_has_the_same_form(error: web.HTTPException, status: int, code: int) -> None:
    response = refusal_of_http(error)
    assert (response.status, json.loads(response.text)["code"]) == (status, code)
    assert response.headers.get("Allow") == ("POST" if status == 405 else None)


def test_either_kind_of_error_has_its_form() -> None:
    assert refused(QueueFull("full")).text == refusal(QueueFull("full")).text
    assert refused(web.HTTPNotFound()).text == refusal_of_http(web.HTTPNotFound()).text
