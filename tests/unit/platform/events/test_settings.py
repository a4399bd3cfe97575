"""Settings of the event log: which log they name, and which of them do not hold together."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from attune.domain.errors import ConfigurationInvalid
from attune.platform.config import load_settings
from attune.platform.events.log import Topic
from attune.platform.events.settings import EventLogSettings, KafkaSettings, open_event_log
from attune.platform.events.sqlite import SqliteEventLog
from pydantic import ValidationError

SCRAM = {"mechanism": "SCRAM-SHA-512", "username": "ada"}


class BakerySettings(EventLogSettings):
    service: ClassVar[str] = "bakery"


def test_without_a_broker_the_log_is_the_embedded_one(tmp_path: Path) -> None:
    log = open_event_log(BakerySettings(events_folder=str(tmp_path), events_max_bytes=1_000_000))
    assert isinstance(log, SqliteEventLog)
    producer = log.producer(Topic.FEEDBACK)
    assert producer.append([b"a"])[0].offset == 0
    producer.close()
    assert (tmp_path / "attune.feedback.sqlite").exists()


def test_with_a_broker_it_is_kafka() -> None:
    log = open_event_log(BakerySettings(kafka=KafkaSettings(bootstrap="127.0.0.1:1", request_timeout_s=0.1)))
    assert type(log).__name__ == "KafkaEventLog"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"ca_file": "ca.pem"}, "need tls"),
        ({"tls": True, "cert_file": "client.pem"}, "belong together"),
        ({"mechanism": "SCRAM-SHA-512"}, "belong together"),
        ({"password": "x"}, "belong together"),
        (SCRAM, "belong together"),
        ({"mechanism": "PLAIN", "username": "ada", "password": "x"}, "needs tls"),
        ({"mechanism": "MAGIC"}, "mechanism"),
        ({"topic_prefix": "no spaces "}, "topic_prefix"),
    ],
)
def test_half_a_security_is_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        KafkaSettings.model_validate(values)


def test_a_password_comes_from_the_environment_or_a_file_and_is_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("from a file\n")
    flags = ["kafka.mechanism=SCRAM-SHA-512", "kafka.username=ada"]
    given = load_settings(BakerySettings, flags, environ={"ATTUNE_BAKERY_KAFKA__PASSWORD": "from outside"})
    assert given.kafka.secret() == "from outside"
    assert "from outside" not in repr(given)
    named = load_settings(BakerySettings, [*flags, f"kafka.password_file={file}"])
    assert named.kafka.secret() == "from a file"
    with pytest.raises(ConfigurationInvalid, match=r"kafka\.password is a secret"):
        load_settings(BakerySettings, [*flags, "kafka.password=on the command line"])
