"""Settings of the event log, the same in every service that uses it, and the function that opens what they name.

`kafka.bootstrap` decides: with it the log is Apache Kafka, without it the embedded one in `events_folder`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from attune.platform.config import Section, ServiceSettings
from attune.platform.events.log import EventLog
from attune.platform.events.sqlite import SqliteEventLog

Mechanism = Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class KafkaSettings(Section):
    """How Kafka is reached. Without `tls` and `mechanism` the connection is plain."""

    bootstrap: str = Field("", description="HOST:PORT of one or more brokers, by commas; empty: the embedded log.")
    topic_prefix: str = Field(
        "", pattern=r"^[A-Za-z0-9._-]{0,200}$", description="Put before the topics' names: systems can share a cluster."
    )
    client_id: str = Field("attune", description="How the broker's logs and quotas name this process.")
    tls: bool = Field(False, description="Encrypt, and check the broker's certificate.")
    ca_file: str = Field("", description="PEM file of the authority that is trusted; empty: the system's.")
    cert_file: str = Field("", description="PEM file of this client's certificate, for brokers that ask for one.")
    key_file: str = Field("", description="PEM file of the certificate's key.")
    mechanism: Mechanism = Field("", description="SASL mechanism: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512; empty: none.")
    username: str = Field("", description="User of the mechanism.")
    password: SecretStr = Field(SecretStr(""), description="Its password; from the environment or a file only.")
    password_file: str = Field("", description="File that holds the password; read anew at every connection.")
    append_timeout_s: float = Field(5.0, gt=0, description="Longest wait until an append is durable; then it failed.")
    request_timeout_s: float = Field(5.0, gt=0, description="Longest wait for an answer when reading.")

    @model_validator(mode="after")
    def _security_is_whole(self) -> Self:
        if not self.tls and (self.ca_file or self.cert_file or self.key_file):
            raise ValueError("ca_file, cert_file and key_file need tls")
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("cert_file and key_file belong together")
        has_password = bool(self.password.get_secret_value() or self.password_file)
        if bool(self.mechanism) != bool(self.username) or bool(self.mechanism) != has_password:
            raise ValueError("mechanism, username and password (or password_file) belong together")
        if self.mechanism == "PLAIN" and not self.tls:
            raise ValueError("the mechanism PLAIN sends the password in clear and needs tls")
        return self

    def secret(self) -> str:
        """The password; OSError if its file cannot be read."""
        return self.password.get_secret_value() or Path(self.password_file).read_text().strip()


class EventLogSettings(ServiceSettings):
    """Base of the settings of every service that uses the event log."""

    events_folder: str = Field("attune-data/events", description="Folder of the embedded event log.")
    events_max_bytes: int = Field(0, ge=0, description="Most bytes of a topic's embedded file; 0: as the disk allows.")
    kafka: KafkaSettings = KafkaSettings()


def open_event_log(settings: EventLogSettings) -> EventLog:
    """The event log that the settings name.

    ConfigurationInvalid if the broker refuses them; a broker that does not answer now is only warned about.
    """
    if not settings.kafka.bootstrap:
        return SqliteEventLog(Path(settings.events_folder), max_bytes=settings.events_max_bytes or None)
    # Imported here, so that the embedded log needs no Kafka client.
    from attune.platform.events.kafka.log import KafkaEventLog

    log = KafkaEventLog(settings.kafka)
    log.check()
    return log
