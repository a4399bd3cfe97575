"""Errors in OpenAI's form."""

from __future__ import annotations

import json

import pytest
from aiohttp import web
from attune.domain.errors import (
    BY_REASON,
    AttuneError,
    DeadlineUnattainable,
    GenerationIdReused,
    InvalidInput,
    PermissionDenied,
    PromptTooLong,
    QueueFull,
    RevisionUnknown,
    Unauthenticated,
)
from attune.platform.web.refusals import http_status
from attune.policy.openai.refusals import error_body, refused


@pytest.mark.parametrize("cls", BY_REASON.values(), ids=BY_REASON)
def test_every_error_has_its_status_and_all_four_fields(cls: type[AttuneError]) -> None:
    response = refused(cls("words"))
    assert response.status == (503 if cls is DeadlineUnattainable else http_status(cls("words")))
    assert json.loads(response.text or "")["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("error", "kind", "param", "code"),
    [
        (InvalidInput.field("n", "must be less"), "invalid_request_error", "n", "invalid_input"),
        (RevisionUnknown("no"), "invalid_request_error", None, "model_not_found"),
        (PromptTooLong("long"), "invalid_request_error", None, "context_length_exceeded"),
        (QueueFull("full"), "rate_limit_error", None, "queue_full"),
        (Unauthenticated("who?"), "authentication_error", None, "unauthenticated"),
        (PermissionDenied("not this"), "permission_error", None, "permission_denied"),
        (DeadlineUnattainable("too slow"), "server_error", None, "deadline_unattainable"),
        (AttuneError("odd"), "server_error", None, "internal"),
    ],
    ids=range(8),
)
def test_a_kind_of_error_is_called_as_openai_calls_it(error: AttuneError, kind: str, param: str, code: str) -> None:
    found = error_body(error)["error"]
    assert (found["type"], found["param"], found["code"], found["message"]) == (kind, param, code, error.message)


def test_headers_say_whether_to_come_back() -> None:
    assert refused(QueueFull("full", retry_after_s=0.2)).headers["Retry-After"] == "1"
    assert refused(DeadlineUnattainable("slow", retry_after_s=2.5)).headers["Retry-After"] == "3"
    assert refused(Unauthenticated("who?")).headers["WWW-Authenticate"] == "Bearer"
    assert refused(GenerationIdReused("used")).headers["x-should-retry"] == "false"
    assert "x-should-retry" not in refused(QueueFull("full")).headers


def test_what_http_refuses_has_the_same_form() -> None:
    response = refused(web.HTTPMethodNotAllowed("GET", ["POST"]))
    assert (response.status, response.headers["Allow"]) == (405, "POST")
    assert json.loads(response.text or "")["error"]["type"] == "invalid_request_error"
