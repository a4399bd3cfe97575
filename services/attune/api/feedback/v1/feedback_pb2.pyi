import datetime

from attune.api.types.v1 import feedback_pb2 as _feedback_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SubmitFeedbackRequest(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: _feedback_pb2.FeedbackEvent
    def __init__(self, event: _Optional[_Union[_feedback_pb2.FeedbackEvent, _Mapping]] = ...) -> None: ...

class SubmitFeedbackResponse(_message.Message):
    __slots__ = ("receipt",)
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    receipt: FeedbackReceipt
    def __init__(self, receipt: _Optional[_Union[FeedbackReceipt, _Mapping]] = ...) -> None: ...

class FeedbackReceipt(_message.Message):
    __slots__ = ("event_id", "accept_time", "repeated_event")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_TIME_FIELD_NUMBER: _ClassVar[int]
    REPEATED_EVENT_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    accept_time: _timestamp_pb2.Timestamp
    repeated_event: bool
    def __init__(self, event_id: _Optional[str] = ..., accept_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., repeated_event: _Optional[bool] = ...) -> None: ...

class IngestFeedbackRequest(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[_feedback_pb2.FeedbackEvent]
    def __init__(self, events: _Optional[_Iterable[_Union[_feedback_pb2.FeedbackEvent, _Mapping]]] = ...) -> None: ...

class IngestFeedbackResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[FeedbackResult]
    def __init__(self, results: _Optional[_Iterable[_Union[FeedbackResult, _Mapping]]] = ...) -> None: ...

class FeedbackResult(_message.Message):
    __slots__ = ("event_id", "status", "receipt")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    status: _status_pb2.Status
    receipt: FeedbackReceipt
    def __init__(self, event_id: _Optional[str] = ..., status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., receipt: _Optional[_Union[FeedbackReceipt, _Mapping]] = ...) -> None: ...

class StreamFeedbackRequest(_message.Message):
    __slots__ = ("event", "events")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    event: _feedback_pb2.FeedbackEvent
    events: _containers.RepeatedCompositeFieldContainer[_feedback_pb2.FeedbackEvent]
    def __init__(self, event: _Optional[_Union[_feedback_pb2.FeedbackEvent, _Mapping]] = ..., events: _Optional[_Iterable[_Union[_feedback_pb2.FeedbackEvent, _Mapping]]] = ...) -> None: ...

class StreamFeedbackResponse(_message.Message):
    __slots__ = ("result", "results")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    result: FeedbackResult
    results: _containers.RepeatedCompositeFieldContainer[FeedbackResult]
    def __init__(self, result: _Optional[_Union[FeedbackResult, _Mapping]] = ..., results: _Optional[_Iterable[_Union[FeedbackResult, _Mapping]]] = ...) -> None: ...
