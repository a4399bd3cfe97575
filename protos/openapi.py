"""Describes the HTTP door of ingest as OpenAPI 3.1, from the same messages that gRPC sends.

Names, types and words come from the protos: the comment of a field is its description. What a proto cannot say (limits,
formats, paths, who may call) stands here. protos/generate.py writes the document beside the door that serves it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorSet

Schema = dict[str, Any]
TIMESTAMP, STATUS = ".google.protobuf.Timestamp", ".google.rpc.Status"
FEEDBACK, TYPES = ".attune.api.feedback.v1.", ".attune.api.types.v1."
REQUEST, BATCH_REQUEST = f"{TYPES}FeedbackEvent", f"{FEEDBACK}IngestFeedbackRequest"
RESPONSE, BATCH_RESPONSE = f"{FEEDBACK}SubmitFeedbackResponse", f"{FEEDBACK}IngestFeedbackResponse"
SCALARS: Mapping[int, Schema] = {
    FieldDescriptorProto.TYPE_STRING: {"type": "string"},
    FieldDescriptorProto.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptorProto.TYPE_DOUBLE: {"type": "number"},
}
NAME = {"minLength": 1, "maxLength": 200}
COMPLETION = {"pattern": "^[0-9A-Fa-f-]{36}/[0-9]{1,2}$", "examples": ["01890a5d-ac96-774b-bcce-b302099a8057/0"]}
LIMITS: Mapping[tuple[str, str], Schema] = {
    ("FeedbackEvent", "event_id"): {"format": "uuid"},
    ("FeedbackEvent", "app_id"): NAME,
    ("FeedbackEvent", "subject_id"): NAME,
    ("FeedbackEvent", "source"): {"maxLength": 200},
    ("Rating", "completion_id"): COMPLETION,
    ("Rating", "value"): {"minimum": 0, "maximum": 1},
    ("Comparison", "chosen_completion_id"): COMPLETION,
    ("Comparison", "rejected_completion_id"): COMPLETION,
    ("RankingTier", "completion_ids"): {"minItems": 1, "maxItems": 64},
    ("Ranking", "tiers"): {"minItems": 1, "maxItems": 64},
    ("Demonstration", "completion_id"): COMPLETION,
    ("Demonstration", "text"): {"minLength": 1, "maxLength": 100_000},
    ("IngestFeedbackRequest", "events"): {"minItems": 1, "maxItems": 1000},
}
REFUSALS: Mapping[int, str] = {
    400: "The body does not hold; the details name the fields.",
    401: "No credential, or one that does not hold: reason UNAUTHENTICATED, or TOKEN_EXPIRED.",
    403: "The credential does not go so far, or pages of this origin may not call.",
    409: "The event id was used before with another body: reason FEEDBACK_CONFLICT.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    429: "Too much waits already; come back after Retry-After seconds. Nothing was stored.",
    503: "The event log cannot store now; come back after Retry-After seconds. Sending again counts once.",
    504: "The time was over before the answer was ready. Sending again counts once.",
}
BATCH_REFUSALS = (400, 401, 403, 413, 415, 429, 504)
STATUS_SCHEMA: Schema = {
    "type": "object",
    "description": "google.rpc.Status: code 0 is OK; details hold ErrorInfo with a reason, BadRequest with the fields "
    "at fault, RetryInfo with when to come back.",
    "properties": {
        "code": {"type": "integer"},
        "message": {"type": "string"},
        "details": {
            "type": "array",
            "items": {"type": "object", "required": ["@type"], "properties": {"@type": {"type": "string"}}},
        },
    },
}


def document(files: FileDescriptorSet) -> dict[str, Any]:
    """The OpenAPI document; `files` hold the protos with their comments."""
    messages = dict(_messages(files))
    schemas: dict[str, Schema] = {"Status": STATUS_SCHEMA}
    for name in (REQUEST, BATCH_REQUEST, RESPONSE, BATCH_RESPONSE):
        _add(name, messages, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Attune feedback",
            "version": "v1",
            "description": "What people thought of completions. An answer of 200 means that the event log has it for "
            "good; sending an event again under its id counts once.",
        },
        "paths": {
            "/v1/feedback": {"post": _operation("submitFeedback", "One event.", REQUEST, RESPONSE, tuple(REFUSALS))},
            "/v1/feedback:batch": {
                "post": _operation(
                    "ingestFeedback", "Many events, a status for each.", BATCH_REQUEST, BATCH_RESPONSE, BATCH_REFUSALS
                )
            },
            "/v1/health": {"get": _health()},
        },
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {
                "appKey": {"type": "http", "scheme": "bearer", "description": "An app's key: anything of that app."},
                "feedbackToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A short-lived token of a backend: one person's judgement of one generation. "
                    "appId and subjectId may then be left out.",
                },
            },
        },
    }


def _messages(files: FileDescriptorSet) -> Iterator[tuple[str, tuple[DescriptorProto, Mapping[tuple[int, ...], str]]]]:
    """Every top-level message by its full name, with the comments of its fields by path."""
    for file in files.file:
        comments = {tuple(place.path): place.leading_comments.strip() for place in file.source_code_info.location}
        for index, message in enumerate(file.message_type):
            own = {path[2:]: text for path, text in comments.items() if path[:2] == (4, index)}
            yield f".{file.package}.{message.name}", (message, own)


def _add(name: str, messages: Mapping[str, Any], schemas: dict[str, Schema]) -> None:
    """Adds the schema of a message, and of those it holds."""
    message, comments = messages[name]
    if message.name in schemas:
        return
    properties: dict[str, Schema] = {}
    schemas[message.name] = {"type": "object", "description": _words(comments.get((), "")), "properties": properties}
    for index, field in enumerate(message.field):
        properties[field.json_name] = {
            **_field(message.name, field),
            "description": _words(comments.get((2, index), "")),
        }
        if field.type_name and field.type_name not in (TIMESTAMP, STATUS):
            _add(field.type_name, messages, schemas)
    choices = [field.json_name for field in message.field if field.HasField("oneof_index")]
    if name == REQUEST:
        schemas[message.name]["required"] = ["eventId"]  # a token says the app and the person, if the event does not
    if choices:
        schemas[message.name]["oneOf"] = [{"required": [choice]} for choice in choices]
    if not message.name.endswith(("Response", "Result", "Receipt")):
        schemas[message.name]["additionalProperties"] = False


def _field(message: str, field: FieldDescriptorProto) -> Schema:
    limits = LIMITS.get((message, field.name), {})
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return {"type": "array", "items": _type(field), **limits}
    return {**_type(field), **limits}


def _type(field: FieldDescriptorProto) -> Schema:
    if field.type_name == TIMESTAMP:
        return {"type": "string", "format": "date-time"}
    if field.type_name:
        return {"$ref": f"#/components/schemas/{field.type_name.rpartition('.')[2]}"}
    return dict(SCALARS[field.type])


def _words(comment: str) -> str:
    return " ".join(comment.split())


def _operation(id: str, summary: str, request: str, response: str, refusals: tuple[int, ...]) -> Schema:
    return {
        "operationId": id,
        "summary": summary,
        "security": [{"appKey": []}, {"feedbackToken": []}],
        "requestBody": {"required": True, "content": _json(request.rpartition(".")[2])},
        "responses": {"200": {"description": "Stored.", "content": _json(response.rpartition(".")[2])}}
        | {str(code): {"description": REFUSALS[code], "content": _json("Status")} for code in refusals},
    }


def _json(schema: str) -> Schema:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _health() -> Schema:
    body = {"application/json": {"schema": {"type": "object", "properties": {"status": {"type": "string"}}}}}
    return {
        "operationId": "health",
        "summary": "Whether new events may be sent here.",
        "responses": {
            "200": {"description": "SERVING.", "content": body},
            "503": {"description": "NOT_SERVING: going down.", "content": body},
        },
    }
