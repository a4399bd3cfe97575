import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Rating(_message.Message):
    __slots__ = ("completion_id", "value")
    COMPLETION_ID_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    completion_id: str
    value: float
    def __init__(self, completion_id: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...

class Comparison(_message.Message):
    __slots__ = ("chosen_completion_id", "rejected_completion_id")
    CHOSEN_COMPLETION_ID_FIELD_NUMBER: _ClassVar[int]
    REJECTED_COMPLETION_ID_FIELD_NUMBER: _ClassVar[int]
    chosen_completion_id: str
    rejected_completion_id: str
    def __init__(self, chosen_completion_id: _Optional[str] = ..., rejected_completion_id: _Optional[str] = ...) -> None: ...

class RankingTier(_message.Message):
    __slots__ = ("completion_ids",)
    COMPLETION_IDS_FIELD_NUMBER: _ClassVar[int]
    completion_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, completion_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class Ranking(_message.Message):
    __slots__ = ("tiers",)
    TIERS_FIELD_NUMBER: _ClassVar[int]
    tiers: _containers.RepeatedCompositeFieldContainer[RankingTier]
    def __init__(self, tiers: _Optional[_Iterable[_Union[RankingTier, _Mapping]]] = ...) -> None: ...

class Demonstration(_message.Message):
    __slots__ = ("completion_id", "text")
    COMPLETION_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    completion_id: str
    text: str
    def __init__(self, completion_id: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class FeedbackEvent(_message.Message):
    __slots__ = ("event_id", "app_id", "subject_id", "source", "occurred_time", "rating", "comparison", "ranking", "demonstration")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    APP_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    RATING_FIELD_NUMBER: _ClassVar[int]
    COMPARISON_FIELD_NUMBER: _ClassVar[int]
    RANKING_FIELD_NUMBER: _ClassVar[int]
    DEMONSTRATION_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    app_id: str
    subject_id: str
    source: str
    occurred_time: _timestamp_pb2.Timestamp
    rating: Rating
    comparison: Comparison
    ranking: Ranking
    demonstration: Demonstration
    def __init__(self, event_id: _Optional[str] = ..., app_id: _Optional[str] = ..., subject_id: _Optional[str] = ..., source: _Optional[str] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., rating: _Optional[_Union[Rating, _Mapping]] = ..., comparison: _Optional[_Union[Comparison, _Mapping]] = ..., ranking: _Optional[_Union[Ranking, _Mapping]] = ..., demonstration: _Optional[_Union[Demonstration, _Mapping]] = ...) -> None: ...
