import datetime

from attune.api.registry.v1 import registry_pb2 as _registry_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PHASE_UNSPECIFIED: _ClassVar[Phase]
    PHASE_WAITING_FOR_REVISION: _ClassVar[Phase]
    PHASE_IDLE: _ClassVar[Phase]
    PHASE_REWARD_UPDATE: _ClassVar[Phase]
    PHASE_ROLLOUT: _ClassVar[Phase]
    PHASE_POLICY_UPDATE: _ClassVar[Phase]
    PHASE_GATE: _ClassVar[Phase]
    PHASE_PAUSED: _ClassVar[Phase]
    PHASE_STOPPED: _ClassVar[Phase]

class TrainerEvent(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRAINER_EVENT_UNSPECIFIED: _ClassVar[TrainerEvent]
    TRAINER_EVENT_REWARD_PROMOTED: _ClassVar[TrainerEvent]
    TRAINER_EVENT_REWARD_REJECTED: _ClassVar[TrainerEvent]
    TRAINER_EVENT_POLICY_PROMOTED: _ClassVar[TrainerEvent]
    TRAINER_EVENT_POLICY_REJECTED: _ClassVar[TrainerEvent]
    TRAINER_EVENT_STOPPED: _ClassVar[TrainerEvent]
    TRAINER_EVENT_ALIAS_MOVED: _ClassVar[TrainerEvent]
PHASE_UNSPECIFIED: Phase
PHASE_WAITING_FOR_REVISION: Phase
PHASE_IDLE: Phase
PHASE_REWARD_UPDATE: Phase
PHASE_ROLLOUT: Phase
PHASE_POLICY_UPDATE: Phase
PHASE_GATE: Phase
PHASE_PAUSED: Phase
PHASE_STOPPED: Phase
TRAINER_EVENT_UNSPECIFIED: TrainerEvent
TRAINER_EVENT_REWARD_PROMOTED: TrainerEvent
TRAINER_EVENT_REWARD_REJECTED: TrainerEvent
TRAINER_EVENT_POLICY_PROMOTED: TrainerEvent
TRAINER_EVENT_POLICY_REJECTED: TrainerEvent
TRAINER_EVENT_STOPPED: TrainerEvent
TRAINER_EVENT_ALIAS_MOVED: TrainerEvent

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("phase", "reason", "step", "epoch", "policy_revision", "reward_revision", "example_sequence", "metrics")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    PHASE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    POLICY_REVISION_FIELD_NUMBER: _ClassVar[int]
    REWARD_REVISION_FIELD_NUMBER: _ClassVar[int]
    EXAMPLE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    phase: Phase
    reason: str
    step: int
    epoch: int
    policy_revision: str
    reward_revision: str
    example_sequence: int
    metrics: _containers.ScalarMap[str, float]
    def __init__(self, phase: _Optional[_Union[Phase, str]] = ..., reason: _Optional[str] = ..., step: _Optional[int] = ..., epoch: _Optional[int] = ..., policy_revision: _Optional[str] = ..., reward_revision: _Optional[str] = ..., example_sequence: _Optional[int] = ..., metrics: _Optional[_Mapping[str, float]] = ...) -> None: ...

class ListRevisionsRequest(_message.Message):
    __slots__ = ("model", "page_size", "page_token")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    model: str
    page_size: int
    page_token: str
    def __init__(self, model: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListRevisionsResponse(_message.Message):
    __slots__ = ("revisions", "next_page_token")
    REVISIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    revisions: _containers.RepeatedCompositeFieldContainer[_registry_pb2.Revision]
    next_page_token: str
    def __init__(self, revisions: _Optional[_Iterable[_Union[_registry_pb2.Revision, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class PromoteRequest(_message.Message):
    __slots__ = ("revision", "actor", "reason")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    revision: str
    actor: str
    reason: str
    def __init__(self, revision: _Optional[str] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class PromoteResponse(_message.Message):
    __slots__ = ("move",)
    MOVE_FIELD_NUMBER: _ClassVar[int]
    move: _registry_pb2.AliasMove
    def __init__(self, move: _Optional[_Union[_registry_pb2.AliasMove, _Mapping]] = ...) -> None: ...

class RollbackRequest(_message.Message):
    __slots__ = ("actor", "reason", "model")
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    actor: str
    reason: str
    model: str
    def __init__(self, actor: _Optional[str] = ..., reason: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class RollbackResponse(_message.Message):
    __slots__ = ("move",)
    MOVE_FIELD_NUMBER: _ClassVar[int]
    move: _registry_pb2.AliasMove
    def __init__(self, move: _Optional[_Union[_registry_pb2.AliasMove, _Mapping]] = ...) -> None: ...

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

class WatchRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("time", "step", "event", "revision", "metrics", "reason")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    TIME_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    step: int
    event: TrainerEvent
    revision: str
    metrics: _containers.ScalarMap[str, float]
    reason: str
    def __init__(self, time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., step: _Optional[int] = ..., event: _Optional[_Union[TrainerEvent, str]] = ..., revision: _Optional[str] = ..., metrics: _Optional[_Mapping[str, float]] = ..., reason: _Optional[str] = ...) -> None: ...
