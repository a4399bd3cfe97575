"""The replay of a log, compared with the live database: status 0 if they agree, 1 if not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attune.api.events.v1 import events_pb2
from attune.cli.replay import replay
from attune.domain.errors import ConfigurationInvalid
from attune.domain.feedback import AcceptedFeedback
from attune.feedback.join import tables
from attune.feedback.join.database import open_database
from attune.platform.events.log import Topic
from attune.platform.events.sqlite import SqliteEventLog
from click.testing import CliRunner, Result
from feedback_samples import NOON_S, a_generation, an_event, rows_of
from sqlalchemy import update
from unit.feedback.join.consuming import a_consumer, drain


@pytest.fixture
def database(tmp_path: Path) -> str:
    """The database of a join that has read a log of one generation and three events."""
    log = SqliteEventLog(tmp_path / "events")
    generations, feedback = log.producer(Topic.GENERATIONS), log.producer(Topic.FEEDBACK)
    generations.append([events_pb2.GenerationBatch(generations=[a_generation().to_proto()]).SerializeToString()])
    events = [AcceptedFeedback(an_event(n, subject_id=f"person {n}"), NOON_S).to_proto() for n in range(3)]
    feedback.append([events_pb2.FeedbackBatch(events=events).SerializeToString()])
    generations.close()
    feedback.close()
    url = f"sqlite:///{tmp_path / 'join.db'}"
    engine = open_database(url)
    consumer = a_consumer(log, engine)
    drain(consumer)
    engine.dispose()
    return url


def invoke(runner: CliRunner, folder: Path, database: str, *arguments: str) -> Result:
    settings = ["--set", f"events_folder={folder / 'events'}", "--set", f"database={database}"]
    return runner.invoke(replay, [*arguments, *settings])


def test_equal_examples_end_with_status_0(runner: CliRunner, tmp_path: Path, database: str) -> None:
    kept = f"sqlite:///{tmp_path / 'kept.db'}"
    done = invoke(runner, tmp_path, database, "--json", "--into", kept)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1]) == {"live": 3, "replayed": 3, "differences": 0, "out_of_log": 0}
    engine = open_database(kept)
    assert len(rows_of(engine)["examples"]) == 3
    engine.dispose()


def test_a_difference_is_named_and_ends_with_status_1(runner: CliRunner, tmp_path: Path, database: str) -> None:
    engine = open_database(database)
    with engine.begin() as connection:
        connection.execute(update(tables.examples).where(tables.examples.c.sequence == 2).values(accept_us=1))
    engine.dispose()
    done = invoke(runner, tmp_path, database)
    assert done.exit_code == 1
    assert "of shop: example missing in the replay" in done.stdout
    assert "3 live, 3 replayed, 2 differences" in done.stdout


def test_a_database_that_no_join_has_opened_is_refused(runner: CliRunner, tmp_path: Path) -> None:
    done = invoke(runner, tmp_path, f"sqlite:///{tmp_path / 'none.db'}")
    assert isinstance(done.exception, ConfigurationInvalid)
    assert not (tmp_path / "none.db").exists()
