"""Settings of ingest. The defaults run on a laptop."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr

from attune.platform.access.settings import AccessSettings
from attune.platform.config import AppPort, LogLevel
from attune.platform.events.settings import EventLogSettings
from attune.platform.tracing import TracingSettings
from attune.platform.web.settings import HttpPort


class HttpSettings(HttpPort):
    """The HTTP door, with those who may come through it."""

    host: str = Field("127.0.0.1", description="Address to listen on; beyond loopback it needs keys or token keys.")
    token_keys: SecretStr = Field(
        SecretStr(""), description='Secrets that sign feedback tokens, as JSON: {"APP": {"KEY ID": "SECRET"}}.'
    )
    token_keys_file: str = Field("", description="File that holds them instead.")
    max_token_s: float = Field(24 * 3600.0, gt=0, description="Longest lifetime of a feedback token.")


class IngestSettings(EventLogSettings, AccessSettings):
    """Everything ingest can be told."""

    service: ClassVar[str] = "ingest"

    app: AppPort = AppPort(port=7003)
    http: HttpSettings = HttpSettings()
    tracing: TracingSettings = TracingSettings()
    metrics_host: str = Field("127.0.0.1", description="Address of the metrics page.")
    metrics_port: int = Field(7203, ge=0, le=65535, description="Port of the metrics page; 0 takes a free one.")
    log_level: LogLevel = Field("info", description="Least severity that is logged.")
    queue_events: int = Field(10_000, ge=1, description="Most events that wait for a write; more are refused.")
    queue_mib: int = Field(64, ge=1, description="Most MiB of events that wait for a write; more are refused.")
    log_timeout_s: float = Field(10.0, gt=0, description="How long an event may wait for the event log.")
    longest_commit_interval_s: float = Field(
        0.012, ge=0, description="Least time between two commits while a core is in full use."
    )
    remembered_events: int = Field(100_000, ge=1, description="Recent event ids known without asking the join.")
    trim_interval_s: float = Field(600.0, gt=0, description="How often expired records of the topic are dropped.")
    max_timeout_s: float = Field(60.0, gt=0, description="Longest deadline a call may ask for; longer ones are cut.")
    max_stream_s: float = Field(3600.0, gt=0, description="The same for a stream.")
    notice_s: float = Field(0.0, ge=0, description="How long calls are still taken once NOT_SERVING is said.")
    grace_s: float = Field(10.0, ge=0, description="How long calls may still finish after a stop was asked for.")
