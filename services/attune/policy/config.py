"""Settings of the policy server. The defaults run on a laptop."""

from __future__ import annotations

import json
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from attune.domain.generations import Sampling
from attune.platform.access.settings import AccessSettings
from attune.platform.config import AppPort, ControlPort, LogLevel, Section
from attune.platform.events.settings import EventLogSettings
from attune.platform.registry.settings import RegistrySettings
from attune.platform.tracing import TracingSettings
from attune.platform.web.settings import HttpPort
from attune.policy.jobs import EngineLimits


class SamplingDefaults(Section):
    """What a request gets that does not say how to draw."""

    max_tokens: int = Field(64, ge=1, description="Longest completion in tokens, the EOS included.")
    temperature: float = Field(1.0, ge=0.01, le=100, description="Divides the logits.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus; 1 draws from all.")

    def sampling(self) -> Sampling:
        return Sampling(max_tokens=self.max_tokens, temperature=self.temperature, top_p=self.top_p)


class EngineSettings(Section):
    """Which engine writes, and how much it does at once."""

    name: Literal["transformers", "vllm"] = Field("transformers", description="The engine; vllm needs vLLM installed.")
    running: int = Field(96, ge=1, description="Most completions written at once.")
    queued: int = Field(
        1024, ge=1, description="Most completions of users that wait, and most of rollouts; more are refused."
    )
    stream_tokens: int = Field(8, ge=1, description="Most tokens that a stream holds back to send together.")
    stream_s: float = Field(0.05, ge=0, description="Longest that it holds them back; 0: each token by itself.")
    nice: int = Field(0, ge=0, le=19, description="Priority of the own engine below that of the doors (Linux).")

    def limits(self) -> EngineLimits:
        return EngineLimits(self.running, self.queued, self.stream_tokens, self.stream_s, self.nice)


class VllmSettings(Section):
    """What vLLM is told, where it is the engine."""

    tensor_parallel_size: int = Field(1, ge=1, description="Over how many devices the weights are laid.")
    arguments: dict = Field({}, description="Other arguments of vLLM's engine, such as vllm.arguments.block_size.")

    @field_validator("arguments", mode="before")
    @classmethod
    def _read(cls, arguments: Any) -> Any:
        """From flags and variables they come as text: JSON where it is, else what it says."""
        if isinstance(arguments, str):
            return _from_json(arguments)
        if not isinstance(arguments, dict):
            return arguments
        return {name: _from_json(v) if isinstance(v, str) else v for name, v in arguments.items()}


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


class HttpSettings(HttpPort):
    """Where OpenAI's clients call."""

    timeout_s: float = Field(600.0, gt=0, description="How long a request may take, and a stream once it has begun.")


class PolicySettings(EventLogSettings, RegistrySettings, AccessSettings):
    """Everything the policy server can be told."""

    service: ClassVar[str] = "policy"

    policy: str = Field("support", description="Name of the policy: policies/<name>.")
    cache_folder: str = Field("attune-data/cache", description="Folder for revisions of a registry that is elsewhere.")
    app: AppPort = AppPort(port=7001)
    control: ControlPort = ControlPort(port=7101)
    http: HttpSettings = HttpSettings()
    tracing: TracingSettings = TracingSettings()
    default_app: str = Field("default", description="App of OpenAI's and Triton's clients that do not name theirs.")
    metrics_host: str = Field("127.0.0.1", description="Address of the metrics page.")
    metrics_port: int = Field(7201, ge=0, le=65535, description="Port of the metrics page; 0 takes a free one.")
    log_level: LogLevel = Field("info", description="Least severity that is logged.")
    log_texts: bool = Field(False, description="Log prompts and completions; erasing a person does not reach them.")
    device: str = Field("auto", description="auto, cpu or cuda.")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Of weights and products.")
    threads: int = Field(0, ge=0, description="Threads of torch; 0: its own choice.")
    poll_interval_s: float = Field(0.5, gt=0, description="Pause between looks at the registry's aliases.")
    record_wait_s: float = Field(0.2, gt=0, description="Longest wait for the event log before an answer leaves.")
    queue_generations: int = Field(10_000, ge=1, description="Most generations that wait to be recorded.")
    engine: EngineSettings = EngineSettings()
    vllm: VllmSettings = VllmSettings()
    defaults: SamplingDefaults = SamplingDefaults()
    max_deadline_s: float = Field(600.0, gt=0, description="Longest deadline a call may ask for; longer ones are cut.")
    max_stream_s: float = Field(3600.0, gt=0, description="The same for a stream of requests.")
    notice_s: float = Field(0.0, ge=0, description="How long calls are still taken once NOT_SERVING is said.")
    grace_s: float = Field(10.0, ge=0, description="How long calls may still finish after a stop was asked for.")
