import datetime

from attune.api.types.v1 import feedback_pb2 as _feedback_pb2
from attune.api.types.v1 import prompts_pb2 as _prompts_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExampleCompletion(_message.Message):
    __slots__ = ("id", "text", "revision", "later_revisions")
    ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    LATER_REVISIONS_FIELD_NUMBER: _ClassVar[int]
    id: str
    text: str
    revision: str
    later_revisions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., text: _Optional[str] = ..., revision: _Optional[str] = ..., later_revisions: _Optional[_Iterable[str]] = ...) -> None: ...

class Example(_message.Message):
    __slots__ = ("sequence", "event_id", "app_id", "subject_id", "prompt", "completions", "feedback", "accept_time", "generation_time", "feedback_traceparent", "generation_traceparents")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    APP_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    COMPLETIONS_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_TIME_FIELD_NUMBER: _ClassVar[int]
    GENERATION_TIME_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    GENERATION_TRACEPARENTS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    event_id: str
    app_id: str
    subject_id: str
    prompt: _prompts_pb2.Prompt
    completions: _containers.RepeatedCompositeFieldContainer[ExampleCompletion]
    feedback: _feedback_pb2.FeedbackEvent
    accept_time: _timestamp_pb2.Timestamp
    generation_time: _timestamp_pb2.Timestamp
    feedback_traceparent: str
    generation_traceparents: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, sequence: _Optional[int] = ..., event_id: _Optional[str] = ..., app_id: _Optional[str] = ..., subject_id: _Optional[str] = ..., prompt: _Optional[_Union[_prompts_pb2.Prompt, _Mapping]] = ..., completions: _Optional[_Iterable[_Union[ExampleCompletion, _Mapping]]] = ..., feedback: _Optional[_Union[_feedback_pb2.FeedbackEvent, _Mapping]] = ..., accept_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., generation_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., feedback_traceparent: _Optional[str] = ..., generation_traceparents: _Optional[_Iterable[str]] = ...) -> None: ...
