import datetime

from attune.api.registry.v1 import registry_pb2 as _registry_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LoadRevisionRequest(_message.Message):
    __slots__ = ("revision", "epoch")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    revision: str
    epoch: int
    def __init__(self, revision: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class LoadRevisionResponse(_message.Message):
    __slots__ = ("load_duration",)
    LOAD_DURATION_FIELD_NUMBER: _ClassVar[int]
    load_duration: _duration_pb2.Duration
    def __init__(self, load_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class PauseRequest(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class PauseResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResumeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResumeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("reward", "live_revision", "loaded_revisions", "running_pairs", "queued_pairs", "paused", "epoch", "refused", "torn_alias_files")
    REWARD_FIELD_NUMBER: _ClassVar[int]
    LIVE_REVISION_FIELD_NUMBER: _ClassVar[int]
    LOADED_REVISIONS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_PAIRS_FIELD_NUMBER: _ClassVar[int]
    QUEUED_PAIRS_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    TORN_ALIAS_FILES_FIELD_NUMBER: _ClassVar[int]
    reward: str
    live_revision: str
    loaded_revisions: _containers.RepeatedScalarFieldContainer[str]
    running_pairs: int
    queued_pairs: int
    paused: bool
    epoch: int
    refused: _registry_pb2.RefusedRevision
    torn_alias_files: int
    def __init__(self, reward: _Optional[str] = ..., live_revision: _Optional[str] = ..., loaded_revisions: _Optional[_Iterable[str]] = ..., running_pairs: _Optional[int] = ..., queued_pairs: _Optional[int] = ..., paused: _Optional[bool] = ..., epoch: _Optional[int] = ..., refused: _Optional[_Union[_registry_pb2.RefusedRevision, _Mapping]] = ..., torn_alias_files: _Optional[int] = ...) -> None: ...
