"""Settings of the reward server. The defaults run on a laptop."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from attune.platform.access.settings import AccessSettings
from attune.platform.config import AppPort, ControlPort, LogLevel, Section
from attune.platform.registry.settings import RegistrySettings
from attune.platform.tracing import TracingSettings
from attune.reward.scorer import MAX_PAIRS, BatchLimits


class Batching(Section):
    """How pairs of many callers are scored together."""

    pairs: int = Field(64, ge=1, description="Most pairs of a batch.")
    tokens: int = Field(16_384, ge=1, description="Most tokens of a batch, padding included.")
    padding: int = Field(256, ge=0, description="Most padding of a batch, in tokens; about what a batch more costs.")
    round_pairs: int = Field(MAX_PAIRS, ge=1, description="Most pairs that are sorted by length together.")
    queue_pairs: int = Field(8192, ge=1, description="Most pairs that wait; more are refused.")

    def limits(self) -> BatchLimits:
        return BatchLimits(self.pairs, self.tokens, self.round_pairs, self.queue_pairs, self.padding)


class Triton(Section):
    """The Triton server that scores with engine=triton."""

    url: str = Field("127.0.0.1:8001", description="Host and port of its gRPC, for engine=triton.")
    repository: str = Field("attune-data/triton", description="Its --model-repository, a folder that both can see.")
    timeout_s: float = Field(30.0, gt=0, description="Longest time for one batch.")
    load_timeout_s: float = Field(300.0, gt=0, description="Longest time for loading a revision there.")


class RewardSettings(RegistrySettings, AccessSettings):
    """Everything the reward server can be told."""

    service: ClassVar[str] = "reward"

    reward_model: str = Field("support", description="Name of the reward model: rewards/<name>.")
    cache_folder: str = Field("attune-data/cache", description="Folder for revisions of a registry that is elsewhere.")
    app: AppPort = AppPort(port=7002)
    control: ControlPort = ControlPort(port=7102)
    tracing: TracingSettings = TracingSettings()
    metrics_host: str = Field("127.0.0.1", description="Address of the metrics page.")
    metrics_port: int = Field(7202, ge=0, le=65535, description="Port of the metrics page; 0 takes a free one.")
    log_level: LogLevel = Field("info", description="Least severity that is logged.")
    engine: Literal["transformers", "triton"] = Field("transformers", description="What runs the model.")
    triton: Triton = Triton()
    device: str = Field("auto", description="auto, cpu or cuda; Triton takes its own.")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Of the trunk; the head is always float32.")
    threads: int = Field(0, ge=0, description="Threads of torch; 0: its own choice.")
    poll_interval_s: float = Field(0.5, gt=0, description="Pause between looks at the registry's aliases.")
    batch: Batching = Batching()
    max_deadline_s: float = Field(600.0, gt=0, description="Longest deadline a call may ask for; longer ones are cut.")
    max_stream_s: float = Field(3600.0, gt=0, description="The same for a stream of requests.")
    notice_s: float = Field(0.0, ge=0, description="How long calls are still taken once NOT_SERVING is said.")
    grace_s: float = Field(10.0, ge=0, description="How long calls may still finish after a stop was asked for.")
