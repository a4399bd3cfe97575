from attune.api.types.v1 import generations_pb2 as _generations_pb2
from attune.api.types.v1 import prompts_pb2 as _prompts_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GenerateRequest(_message.Message):
    __slots__ = ("app_id", "generation_id", "subject_id", "prompt", "sampling", "revision", "purpose")
    APP_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    app_id: str
    generation_id: str
    subject_id: str
    prompt: _prompts_pb2.Prompt
    sampling: _generations_pb2.SamplingParameters
    revision: str
    purpose: _generations_pb2.Purpose
    def __init__(self, app_id: _Optional[str] = ..., generation_id: _Optional[str] = ..., subject_id: _Optional[str] = ..., prompt: _Optional[_Union[_prompts_pb2.Prompt, _Mapping]] = ..., sampling: _Optional[_Union[_generations_pb2.SamplingParameters, _Mapping]] = ..., revision: _Optional[str] = ..., purpose: _Optional[_Union[_generations_pb2.Purpose, str]] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("generation", "recorded")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    generation: _generations_pb2.Generation
    recorded: bool
    def __init__(self, generation: _Optional[_Union[_generations_pb2.Generation, _Mapping]] = ..., recorded: _Optional[bool] = ...) -> None: ...

class GenerateStreamRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: GenerateRequest
    def __init__(self, request: _Optional[_Union[GenerateRequest, _Mapping]] = ...) -> None: ...

class GenerateStreamResponse(_message.Message):
    __slots__ = ("generation_id", "delta", "final")
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    generation_id: str
    delta: CompletionDelta
    final: GenerateResponse
    def __init__(self, generation_id: _Optional[str] = ..., delta: _Optional[_Union[CompletionDelta, _Mapping]] = ..., final: _Optional[_Union[GenerateResponse, _Mapping]] = ...) -> None: ...

class CompletionDelta(_message.Message):
    __slots__ = ("index", "text", "token_ids", "logprobs", "finish_reason")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    index: int
    text: str
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    logprobs: _containers.RepeatedScalarFieldContainer[float]
    finish_reason: _generations_pb2.FinishReason
    def __init__(self, index: _Optional[int] = ..., text: _Optional[str] = ..., token_ids: _Optional[_Iterable[int]] = ..., logprobs: _Optional[_Iterable[float]] = ..., finish_reason: _Optional[_Union[_generations_pb2.FinishReason, str]] = ...) -> None: ...
