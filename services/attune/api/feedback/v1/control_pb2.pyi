import datetime

from attune.api.types.v1 import examples_pb2 as _examples_pb2
from attune.api.types.v1 import feedback_pb2 as _feedback_pb2
from attune.api.types.v1 import prompts_pb2 as _prompts_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FeedbackState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FEEDBACK_STATE_UNSPECIFIED: _ClassVar[FeedbackState]
    FEEDBACK_STATE_ACCEPTED: _ClassVar[FeedbackState]
    FEEDBACK_STATE_PENDING: _ClassVar[FeedbackState]
    FEEDBACK_STATE_JOINED: _ClassVar[FeedbackState]
    FEEDBACK_STATE_SUPERSEDED: _ClassVar[FeedbackState]
    FEEDBACK_STATE_CONFLICT: _ClassVar[FeedbackState]
    FEEDBACK_STATE_EXPIRED: _ClassVar[FeedbackState]
    FEEDBACK_STATE_ERASED: _ClassVar[FeedbackState]

class RemovalReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REMOVAL_REASON_UNSPECIFIED: _ClassVar[RemovalReason]
    REMOVAL_REASON_SUPERSEDED: _ClassVar[RemovalReason]
    REMOVAL_REASON_ERASED: _ClassVar[RemovalReason]
FEEDBACK_STATE_UNSPECIFIED: FeedbackState
FEEDBACK_STATE_ACCEPTED: FeedbackState
FEEDBACK_STATE_PENDING: FeedbackState
FEEDBACK_STATE_JOINED: FeedbackState
FEEDBACK_STATE_SUPERSEDED: FeedbackState
FEEDBACK_STATE_CONFLICT: FeedbackState
FEEDBACK_STATE_EXPIRED: FeedbackState
FEEDBACK_STATE_ERASED: FeedbackState
REMOVAL_REASON_UNSPECIFIED: RemovalReason
REMOVAL_REASON_SUPERSEDED: RemovalReason
REMOVAL_REASON_ERASED: RemovalReason

class GetFeedbackRequest(_message.Message):
    __slots__ = ("app_id", "event_id")
    APP_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    app_id: str
    event_id: str
    def __init__(self, app_id: _Optional[str] = ..., event_id: _Optional[str] = ...) -> None: ...

class GetFeedbackResponse(_message.Message):
    __slots__ = ("state", "reason", "event", "accept_time", "example_sequence")
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_TIME_FIELD_NUMBER: _ClassVar[int]
    EXAMPLE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    state: FeedbackState
    reason: str
    event: _feedback_pb2.FeedbackEvent
    accept_time: _timestamp_pb2.Timestamp
    example_sequence: int
    def __init__(self, state: _Optional[_Union[FeedbackState, str]] = ..., reason: _Optional[str] = ..., event: _Optional[_Union[_feedback_pb2.FeedbackEvent, _Mapping]] = ..., accept_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., example_sequence: _Optional[int] = ...) -> None: ...

class EraseSubjectRequest(_message.Message):
    __slots__ = ("app_id", "subject_id")
    APP_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    app_id: str
    subject_id: str
    def __init__(self, app_id: _Optional[str] = ..., subject_id: _Optional[str] = ...) -> None: ...

class EraseSubjectResponse(_message.Message):
    __slots__ = ("examples_erased", "events_erased", "generations_erased", "log_empty_time", "example_sequences", "revisions", "notice")
    EXAMPLES_ERASED_FIELD_NUMBER: _ClassVar[int]
    EVENTS_ERASED_FIELD_NUMBER: _ClassVar[int]
    GENERATIONS_ERASED_FIELD_NUMBER: _ClassVar[int]
    LOG_EMPTY_TIME_FIELD_NUMBER: _ClassVar[int]
    EXAMPLE_SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    REVISIONS_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    examples_erased: int
    events_erased: int
    generations_erased: int
    log_empty_time: _timestamp_pb2.Timestamp
    example_sequences: _containers.RepeatedScalarFieldContainer[int]
    revisions: _containers.RepeatedScalarFieldContainer[str]
    notice: str
    def __init__(self, examples_erased: _Optional[int] = ..., events_erased: _Optional[int] = ..., generations_erased: _Optional[int] = ..., log_empty_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., example_sequences: _Optional[_Iterable[int]] = ..., revisions: _Optional[_Iterable[str]] = ..., notice: _Optional[str] = ...) -> None: ...

class ReadExamplesRequest(_message.Message):
    __slots__ = ("after_sequence", "page_size", "after_removal")
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    AFTER_REMOVAL_FIELD_NUMBER: _ClassVar[int]
    after_sequence: int
    page_size: int
    after_removal: int
    def __init__(self, after_sequence: _Optional[int] = ..., page_size: _Optional[int] = ..., after_removal: _Optional[int] = ...) -> None: ...

class ReadExamplesResponse(_message.Message):
    __slots__ = ("examples", "last_sequence", "end_sequence", "removals", "last_removal")
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    END_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    REMOVALS_FIELD_NUMBER: _ClassVar[int]
    LAST_REMOVAL_FIELD_NUMBER: _ClassVar[int]
    examples: _containers.RepeatedCompositeFieldContainer[_examples_pb2.Example]
    last_sequence: int
    end_sequence: int
    removals: _containers.RepeatedCompositeFieldContainer[ExampleRemoval]
    last_removal: int
    def __init__(self, examples: _Optional[_Iterable[_Union[_examples_pb2.Example, _Mapping]]] = ..., last_sequence: _Optional[int] = ..., end_sequence: _Optional[int] = ..., removals: _Optional[_Iterable[_Union[ExampleRemoval, _Mapping]]] = ..., last_removal: _Optional[int] = ...) -> None: ...

class ExampleRemoval(_message.Message):
    __slots__ = ("id", "sequence", "reason")
    ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    id: int
    sequence: int
    reason: RemovalReason
    def __init__(self, id: _Optional[int] = ..., sequence: _Optional[int] = ..., reason: _Optional[_Union[RemovalReason, str]] = ...) -> None: ...

class ReadPromptsRequest(_message.Message):
    __slots__ = ("after_sequence", "page_size")
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    after_sequence: int
    page_size: int
    def __init__(self, after_sequence: _Optional[int] = ..., page_size: _Optional[int] = ...) -> None: ...

class ReadPromptsResponse(_message.Message):
    __slots__ = ("prompts", "last_sequence")
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    prompts: _containers.RepeatedCompositeFieldContainer[UserPrompt]
    last_sequence: int
    def __init__(self, prompts: _Optional[_Iterable[_Union[UserPrompt, _Mapping]]] = ..., last_sequence: _Optional[int] = ...) -> None: ...

class UserPrompt(_message.Message):
    __slots__ = ("sequence", "prompt", "prompt_hash")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_HASH_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    prompt: _prompts_pb2.Prompt
    prompt_hash: str
    def __init__(self, sequence: _Optional[int] = ..., prompt: _Optional[_Union[_prompts_pb2.Prompt, _Mapping]] = ..., prompt_hash: _Optional[str] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("states", "topics", "end_sequence")
    STATES_FIELD_NUMBER: _ClassVar[int]
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    END_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    states: _containers.RepeatedCompositeFieldContainer[StateCount]
    topics: _containers.RepeatedCompositeFieldContainer[TopicProgress]
    end_sequence: int
    def __init__(self, states: _Optional[_Iterable[_Union[StateCount, _Mapping]]] = ..., topics: _Optional[_Iterable[_Union[TopicProgress, _Mapping]]] = ..., end_sequence: _Optional[int] = ...) -> None: ...

class StateCount(_message.Message):
    __slots__ = ("state", "events")
    STATE_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    state: FeedbackState
    events: int
    def __init__(self, state: _Optional[_Union[FeedbackState, str]] = ..., events: _Optional[int] = ...) -> None: ...

class TopicProgress(_message.Message):
    __slots__ = ("topic", "partition", "offset", "lag_records")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LAG_RECORDS_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partition: int
    offset: int
    lag_records: int
    def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., offset: _Optional[int] = ..., lag_records: _Optional[int] = ...) -> None: ...
