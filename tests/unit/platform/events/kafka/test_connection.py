"""Connecting to a secured broker: who is let in, and what is said to who is not."""

from __future__ import annotations

import os
import time
import tomllib
from collections.abc import Iterator

import pytest
from attune.domain.errors import ConfigurationInvalid, EventLogUnavailable
from attune.platform.events.kafka.connection import connect
from attune.platform.events.kafka.log import KafkaEventLog
from attune.platform.events.kafka.topics import Layout, Topics
from attune.platform.events.log import Topic
from attune.platform.events.settings import KafkaSettings
from broker import Broker
from certificates import make_certificates
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from support.kafka import read_all, started

pytestmark = pytest.mark.kafka
TIMEOUT_S = 20.0


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    one = started(tmp_path_factory.mktemp("secured"), secured=True)
    yield one
    one.stop()


def settings_of(broker: Broker, client: str, **changes: object) -> KafkaSettings:
    given = tomllib.loads(broker.settings(client).read_text())["kafka"]
    return KafkaSettings.model_validate(
        given | {"request_timeout_s": TIMEOUT_S, "append_timeout_s": TIMEOUT_S} | changes
    )


@pytest.mark.parametrize("client", ["scram", "mtls"])
def test_who_is_known_writes_and_reads(secured: Broker, client: str, topic_prefix: str) -> None:
    settings = settings_of(secured, client, topic_prefix=topic_prefix)
    with Topics(settings, Layout(partitions=1)) as topics:
        topics.create()
        assert topics.check() == []
    log = KafkaEventLog(settings)
    log.check()
    producer = log.producer(Topic.FEEDBACK)
    producer.append([b"a", bytes(3_000_000)])
    producer.close()
    assert [len(record.value) for record in read_all(log, Topic.FEEDBACK)] == [1, 3_000_000]


@pytest.mark.parametrize(
    ("client", "changes", "said"),
    [
        ("scram", {"password_file": "", "password": "wrong"}, "Authentication failed"),
        ("scram", {"username": "nobody"}, "Authentication failed"),
        ("scram", {"mechanism": "SCRAM-SHA-256"}, "UnsupportedSaslMechanism|mechanism"),
        ("scram", {"ca_file": ""}, "certificate verify failed"),
        ("scram", {"ca_file": "/no/such/file"}, "cannot be read"),
        ("mtls", {"cert_file": "", "key_file": ""}, "alert (bad certificate|certificate required)"),
    ],
    ids=["password", "user", "mechanism", "authority", "missing file", "no certificate"],
)
def test_who_is_refused_hears_why_at_once(secured: Broker, client: str, changes: dict[str, object], said: str) -> None:
    log = KafkaEventLog(settings_of(secured, client, **changes))
    begun = time.monotonic()
    with pytest.raises(ConfigurationInvalid, match=said):
        log.check()
    producer = log.producer(Topic.FEEDBACK)
    with pytest.raises(EventLogUnavailable, match=said):
        producer.append([b"a"])
    assert time.monotonic() - begun < TIMEOUT_S
    producer.close()


def test_the_certificate_of_another_authority_is_refused(
    secured: Broker, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = make_certificates(tmp_path_factory.mktemp("stranger"))
    changes = {"cert_file": str(stranger.client_certificate), "key_file": str(stranger.client_key)}
    with pytest.raises(ConfigurationInvalid, match=r"\[SSL: "):
        KafkaEventLog(settings_of(secured, "mtls", **changes)).check()


def test_a_plain_client_at_a_port_with_tls_is_told(secured: Broker) -> None:
    with pytest.raises(ConfigurationInvalid, match="Invalid frame length"):
        KafkaEventLog(KafkaSettings(bootstrap=secured.address, request_timeout_s=TIMEOUT_S)).check()


@pytest.mark.parametrize("client", [KafkaProducer, KafkaConsumer, KafkaAdminClient])
def test_where_nothing_listens_nothing_stays_open(client: type) -> None:
    settings = KafkaSettings(bootstrap="127.0.0.1:1")
    open_before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(EventLogUnavailable, match=r"127\.0\.0\.1:1: .*ECONNREFUSED"):
            connect(client, settings, 1.0)
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_any_of_several_brokers_will_do(secured: Broker) -> None:
    settings = settings_of(secured, "mtls", bootstrap=f"127.0.0.1:1,{secured.mtls_address}")
    connect(KafkaAdminClient, settings, TIMEOUT_S).close()
