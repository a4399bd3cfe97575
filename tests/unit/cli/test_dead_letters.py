"""Listing dead letters and writing them back, over the embedded event log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attune.api.events.v1 import events_pb2
from attune.cli.dead_letters import dead_letters
from attune.domain.errors import ConfigurationInvalid, TopicHasWriter
from attune.domain.feedback import AcceptedFeedback
from attune.feedback.join.database import open_database
from attune.feedback.join.erased import Erased
from attune.platform.events.log import Topic
from attune.platform.events.sqlite import SqliteEventLog
from click.testing import CliRunner, Result
from feedback_samples import APP, NOON_S, an_event


def append(log: SqliteEventLog, topic: Topic, *values: bytes) -> None:
    producer = log.producer(topic)
    producer.append(values)
    producer.close()


def a_letter(offset: int, reason: str, subject_id: str = "ann") -> bytes:
    entry = AcceptedFeedback(an_event(offset, subject_id=subject_id), NOON_S).to_proto().SerializeToString()
    letter = events_pb2.DeadLetter(topic="attune.feedback", offset=offset, reason=reason, detail="so", value=entry)
    letter.time.FromSeconds(round(NOON_S))
    return letter.SerializeToString()


@pytest.fixture
def log(tmp_path: Path) -> SqliteEventLog:
    found = SqliteEventLog(tmp_path / "events")
    letters = [a_letter(1, "ENTRY_INVALID"), a_letter(2, "BODY_DIFFERS"), a_letter(3, "ENTRY_INVALID", "eve")]
    append(found, Topic.DEAD_LETTERS, *letters)
    return found


def invoke(runner: CliRunner, folder: Path, *arguments: str, input: str = "") -> Result:
    settings = [f"events_folder={folder / 'events'}", f"database=sqlite:///{folder / 'join.db'}"]
    options = [part for setting in settings for part in ("--set", setting)]
    return runner.invoke(dead_letters, [*arguments, *options], input=input)


def written(log: SqliteEventLog) -> list[str]:
    consumer = log.consumer(Topic.FEEDBACK)
    batches = [events_pb2.FeedbackBatch.FromString(record.value) for record in consumer.read(0, 0)]
    consumer.close()
    return [accepted.event.event_id for batch in batches for accepted in batch.events]


@pytest.mark.usefixtures("log")
def test_letters_are_listed_with_place_time_and_reason(runner: CliRunner, tmp_path: Path) -> None:
    done = invoke(runner, tmp_path, "list")
    assert done.exit_code == 0, done.output
    for shown in ("attune.feedback/0@1[0]", "BODY_DIFFERS: 1", "ENTRY_INVALID: 2"):
        assert shown in done.output


@pytest.mark.usefixtures("log")
def test_some_letters_are_chosen(runner: CliRunner, tmp_path: Path) -> None:
    done = invoke(runner, tmp_path, "list", "--reason", "ENTRY_INVALID", "--limit", "1", "--json")
    found = json.loads(done.stdout)
    assert [letter["place"] for letter in found["letters"]] == ["attune.feedback/0@3[0]"]
    assert found["letters"][0]["time"] == NOON_S
    assert found["reasons"] == {"ENTRY_INVALID": 2}
    assert json.loads(invoke(runner, tmp_path, "list", "--place", "elsewhere", "--json").stdout)["letters"] == []


def test_letters_go_back_without_erased_people(runner: CliRunner, tmp_path: Path, log: SqliteEventLog) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'join.db'}")
    with engine.begin() as connection:
        Erased.of(engine).add(connection, APP, "eve", 1)
    engine.dispose()
    assert invoke(runner, tmp_path, "replay", input="n\n").exit_code == 1
    assert written(log) == []
    done = invoke(runner, tmp_path, "replay", "--yes", "--reason", "ENTRY_INVALID", "--json")
    assert json.loads(done.stdout) == {"written": 1, "erased": 1, "whole_records": 0}
    assert written(log) == [an_event(1).event_id]


def test_a_topic_that_ingest_writes_is_left_alone(runner: CliRunner, tmp_path: Path, log: SqliteEventLog) -> None:
    open_database(f"sqlite:///{tmp_path / 'join.db'}").dispose()
    ingest = log.producer(Topic.FEEDBACK)
    done = invoke(runner, tmp_path, "replay", "--yes")
    ingest.close()
    assert isinstance(done.exception, TopicHasWriter)
    assert written(log) == []


@pytest.mark.usefixtures("log")
def test_without_the_database_of_the_join_nothing_is_written(runner: CliRunner, tmp_path: Path) -> None:
    assert isinstance(invoke(runner, tmp_path, "replay", "--yes").exception, ConfigurationInvalid)
