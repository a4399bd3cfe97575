"""Real processes of ingest and join, killed while people send feedback: what was acknowledged counts exactly once.

On the embedded log, and on Kafka, whose broker is killed as well.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest
from attune.api.events.v1 import events_pb2
from attune.client import Client, FeedbackEvent, Rating, RetryPolicy, new_event
from attune.client.control import FeedbackControlClient
from attune.domain.errors import AttuneError
from attune.platform.events.kafka.log import KafkaEventLog
from attune.platform.events.log import EventLog, Topic
from attune.platform.events.settings import KafkaSettings
from attune.platform.events.sqlite import SqliteEventLog
from broker import Broker
from feedback_samples import APP, a_generation, completion
from support.kafka import read_all
from support.postgres import PostgresServer
from support.processes import Process, running

PATIENCE_S = 90.0
EVENTS, SENDERS, KILLS = 400, 4, 4
QUICK = RetryPolicy(attempts=2, first_s=0.01)


@dataclass
class Place:
    """An event log, the settings of who uses it, and the broker that may be killed, if there is one."""

    log: EventLog
    settings: list[str]
    broker: Broker | None


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "embedded":
        return Place(SqliteEventLog(tmp_path / "attune-data" / "events"), [], None)
    settings: KafkaSettings = request.getfixturevalue("kafka_settings")
    flags = [f"kafka.bootstrap={settings.bootstrap}", f"kafka.topic_prefix={settings.topic_prefix}"]
    return Place(KafkaEventLog(settings), flags, request.getfixturevalue("broker"))


def until_taken(client: Client, event: FeedbackEvent, deadline: float) -> None:
    """Sends one event, under one id, until it is acknowledged."""
    while True:
        try:
            client.submit(event, timeout_s=5.0)
            return
        except AttuneError:
            assert time.monotonic() < deadline
            time.sleep(0.005)


def send_all(address: str, events: list[FeedbackEvent], taken: list[str], deadline: float) -> None:
    with Client(app_id=APP, feedback_address=address, retry=QUICK) as client:
        for event in events:
            until_taken(client, event, deadline)
            taken.append(event.event_id)


def write_generation(log: EventLog) -> None:
    producer = log.producer(Topic.GENERATIONS)
    producer.append([events_pb2.GenerationBatch(generations=[a_generation(1).to_proto()]).SerializeToString()])
    producer.close()


def ids_in_log(log: EventLog) -> list[str]:
    batches = [events_pb2.FeedbackBatch.FromString(record.value) for record in read_all(log, Topic.FEEDBACK)]
    return [accepted.event.event_id for batch in batches for accepted in batch.events]


def read_everything(client: FeedbackControlClient, want: int, deadline: float) -> list[str]:
    """The event ids of all examples, page by page, once there are as many as wanted."""
    while True:
        ids, after = [], 0
        while page := client.read_examples(after, page_size=100):
            ids += [example.event.event_id for example in page.examples]
            if page.last_sequence == after:
                break
            after = page.last_sequence
        if len(ids) >= want:
            return ids
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment that names the join's database; by default it is a file of its folder."""
    if request.param == "sqlite":
        return {}
    server: PostgresServer = request.getfixturevalue("postgres")
    return {
        "ATTUNE_JOIN_DATABASE": server.url(f"killed_{uuid.uuid4().hex}", with_password=False),
        "ATTUNE_JOIN_DATABASE_PASSWORD": server.password,
    }


@pytest.mark.slow
def test_acknowledged_feedback_counts_once_through_kills(
    tmp_path: Path, place: Place, database: dict[str, str]
) -> None:
    dice = random.Random(5)
    deadline = time.monotonic() + PATIENCE_S
    write_generation(place.log)
    events = [new_event(APP, Rating(completion(1), 1.0), subject_id=f"person {n}") for n in range(EVENTS)]
    taken: list[str] = []
    ingest = Process(tmp_path, "ingest", "app.port", place.settings)
    join = Process(tmp_path, "join", "control.port", place.settings, database)
    with running(ingest), running(join):
        senders = [
            threading.Thread(target=send_all, args=[ingest.address, events[i::SENDERS], taken, deadline])
            for i in range(SENDERS)
        ]
        for sender in senders:
            sender.start()
        for kill in range(1, KILLS + 1):
            while len(taken) < kill * EVENTS / (KILLS + 1):
                assert time.monotonic() < deadline
                time.sleep(0.001)
            if place.broker and kill % 2 == 0:
                place.broker.kill()
                place.broker.start()
            for process in dice.sample([ingest, join], dice.randint(1, 2)):
                process.kill()
                process.start()
        for sender in senders:
            sender.join(PATIENCE_S)
        with FeedbackControlClient(join.address) as client:
            client.wait_until_serving(PATIENCE_S)
            examples = read_everything(client, EVENTS, deadline)
        assert (ingest.stop(), join.stop()) == (0, 0)
    wanted = sorted(event.event_id for event in events)
    assert sorted(taken) == wanted
    assert sorted(examples) == wanted
    assert set(ids_in_log(place.log)) == set(wanted)
