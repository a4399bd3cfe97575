"""Settings of the join. The defaults run on a laptop."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from attune.domain.errors import ConfigurationInvalid
from attune.feedback.join.rows import Limits
from attune.platform.access.settings import AccessSettings
from attune.platform.config import ControlPort, LogLevel
from attune.platform.events.settings import EventLogSettings
from attune.platform.registry.settings import RegistrySettings
from attune.platform.tracing import TracingSettings

DAY_S = 86_400.0
MICROSECONDS = 1_000_000


class JoinSettings(EventLogSettings, RegistrySettings, AccessSettings):
    """Everything the join can be told."""

    service: ClassVar[str] = "join"

    control: ControlPort = ControlPort(port=7104)
    tracing: TracingSettings = TracingSettings()
    metrics_host: str = Field("127.0.0.1", description="Address of the metrics page.")
    metrics_port: int = Field(7204, ge=0, le=65535, description="Port of the metrics page; 0 takes a free one.")
    log_level: LogLevel = Field("info", description="Least severity that is logged.")
    database: str = Field(
        "sqlite:///attune-data/join.db",
        description="SQLAlchemy URL of the join database; for PostgreSQL postgresql+psycopg://USER@HOST/NAME.",
    )
    database_password: SecretStr = Field(SecretStr(""), description="Password of the database, if it asks for one.")
    database_password_file: str = Field("", description="File that holds the password instead.")
    erasures_from: str = Field("", description="URL of the database this one replays; its erasures are carried over.")
    registry: str = Field(
        "attune-data/registry",
        description="Folder of the registry, or s3://BUCKET/PREFIX; empty: no freshness, no revisions named.",
    )
    batch_records: int = Field(512, ge=1, description="Most records of a partition in one transaction.")
    pending_ttl_s: float = Field(DAY_S, gt=0, description="How long feedback waits for its generation, log time.")
    generation_retention_s: float = Field(8 * DAY_S, gt=0, description="How long generations take feedback, log time.")
    feedback_retention_s: float = Field(10 * DAY_S, ge=7 * DAY_S, description="How long events are known by their ids.")
    prompt_capacity: int = Field(20_000, ge=1, description="Most prompts of the reservoir, the newest distinct ones.")
    sweep_interval_s: float = Field(5.0, gt=0, description="How often old rows are swept and freshness followed up.")
    clock_slack_s: float = Field(5.0, ge=0, description="How far the clocks of writers and join may differ.")
    max_timeout_s: float = Field(60.0, gt=0, description="Longest deadline a call may ask for; longer ones are cut.")
    grace_s: float = Field(10.0, ge=0, description="How long calls may still finish after a stop was asked for.")

    @model_validator(mode="after")
    def _opinions_outlive_what_they_are_about(self) -> Self:
        """Otherwise a change of mind could come when the earlier opinion is forgotten, and both would count."""
        if self.feedback_retention_s < self.generation_retention_s + self.pending_ttl_s:
            raise ValueError("feedback_retention_s must cover generation_retention_s and pending_ttl_s together")
        return self

    @field_validator("database", "erasures_from")
    @classmethod
    def _holds_no_password(cls, url: str) -> str:
        """Arguments of a process can be read by others on its machine."""
        if "://" in url and "@" in url and ":" in url.split("://", 1)[1].rpartition("@")[0]:
            raise ValueError("the password goes into ATTUNE_JOIN_DATABASE_PASSWORD or database_password_file")
        return url

    def password(self) -> str:
        """The password of the database; ConfigurationInvalid if its file cannot be read."""
        if not self.database_password_file:
            return self.database_password.get_secret_value()
        try:
            return Path(self.database_password_file).read_text().strip()
        except OSError as error:
            raise ConfigurationInvalid(f"database_password_file cannot be read: {error.strerror}") from None

    def limits(self) -> Limits:
        return Limits(
            pending_ttl_us=round(self.pending_ttl_s * MICROSECONDS),
            generation_retention_us=round(self.generation_retention_s * MICROSECONDS),
            prompt_capacity=self.prompt_capacity,
        )
