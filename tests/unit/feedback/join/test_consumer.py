"""The loop over a log: dead letters, offsets, replays, zombies, and a process killed in the middle."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from attune.api.events.v1 import events_pb2
from attune.domain.errors import OffsetConflict
from attune.domain.feedback import FeedbackState, Rating
from attune.feedback.join.consumer import collect_rarely
from attune.feedback.join.database import open_database
from attune.feedback.join.erased import copy_from
from attune.feedback.join.erasure import erase_subject
from attune.feedback.join.reading import Reader
from attune.feedback.join.store import Store
from attune.platform.events.log import Topic
from attune.platform.events.memory import MemoryEventLog
from attune.platform.events.sqlite import SqliteEventLog
from feedback_samples import (
    APP,
    FEEDBACK,
    LIMITS,
    an_id,
    completion,
    rows_of,
)
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine
from support.eventually import eventually_sync
from support.tracing import links_of, recorded
from unit.feedback.join.consuming import Clock, Feed, a_consumer, drain


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> MemoryEventLog:
    return MemoryEventLog(clock=clock)


def test_bad_records_go_to_the_dead_letters_and_the_good_ones_on(
    log: MemoryEventLog, engine: Engine, clock: Clock
) -> None:
    feed = Feed(log)
    feed.feedback.append([b"\xff\xff\xff"])
    feed.generations.append([b"\x0a\xff"])
    feed.generation()
    feed.event(1)
    feed.event(1, Rating(completion(1), 0.0))
    drain(a_consumer(log, engine, clock))
    letters = [events_pb2.DeadLetter.FromString(record.value) for record in log.consumer(Topic.DEAD_LETTERS).read(0, 0)]
    assert [(x.topic, x.offset, x.index, x.reason) for x in letters] == [
        ("attune.feedback", 0, -1, "RECORD_GARBLED"),
        ("attune.generations", 0, -1, "RECORD_GARBLED"),
        ("attune.feedback", 2, 0, "BODY_DIFFERS"),
    ]
    assert Reader(engine).offsets() == {("attune.feedback", 0): 3, ("attune.generations", 0): 2}
    assert Reader(engine).state_counts() == {FeedbackState.JOINED: 1, FeedbackState.CONFLICT: 1}


def test_dead_letters_that_cannot_be_stored_hold_the_join_before_the_commit(
    log: MemoryEventLog, engine: Engine, clock: Clock
) -> None:
    feed, registry, stop = Feed(log), CollectorRegistry(), threading.Event()
    consumer = a_consumer(log, engine, clock, registry=registry, retry_wait_s=0.01)
    feed.feedback.append([b"\xff\xff\xff"])
    log.max_bytes = 1
    thread = threading.Thread(target=consumer.run, args=[stop])
    thread.start()
    eventually_sync(lambda: (registry.get_sample_value("attune_event_log_unavailable_total") or 0) > 1)
    assert Reader(engine).offsets()["attune.feedback", 0] == 0
    assert registry.get_sample_value("attune_event_lag_records", {"topic": "attune.feedback"}) == 1
    log.max_bytes = None
    eventually_sync(lambda: Reader(engine).offsets()["attune.feedback", 0] == 1)
    stop.set()
    thread.join(10)
    assert len(log.consumer(Topic.DEAD_LETTERS).read(0, 0)) == 1


@pytest.mark.parametrize("batch_records", [1, 5, 1000])
def test_a_replay_into_an_empty_database_gives_the_same_rows(
    log: MemoryEventLog, new_engine: Callable[[str], Engine], clock: Clock, batch_records: int
) -> None:
    """The live join here reads as the log grows; every row is equal, sequence numbers included."""
    dice = random.Random(batch_records)
    feed, live = Feed(log), a_consumer(log, new_engine("live"), clock)
    for _ in range(12):
        feed.anything(dice, 30)
        live.step()
    drain(live)
    drain(a_consumer(log, new_engine("replayed"), batch_records=batch_records))
    assert rows_of(new_engine("replayed")) == rows_of(new_engine("live"))
    counts = Reader(new_engine("live")).state_counts()
    assert set(counts) >= {
        FeedbackState.JOINED,
        FeedbackState.PENDING,
        FeedbackState.SUPERSEDED,
        FeedbackState.CONFLICT,
    }


def test_partitions_are_replayed_in_the_order_of_log_time(new_engine: Callable[[str], Engine], clock: Clock) -> None:
    dice, log = random.Random(2), MemoryEventLog(partitions=3, clock=clock)
    feed, live = Feed(log), a_consumer(log, new_engine("live"), clock)
    for _ in range(10):
        feed.anything(dice, 30)
        drain(live)
    drain(a_consumer(log, new_engine("replayed"), batch_records=4))
    assert rows_of(new_engine("replayed")) == rows_of(new_engine("live"))


def test_a_replay_does_not_bring_an_erased_person_back(
    log: MemoryEventLog, new_engine: Callable[[str], Engine], clock: Clock
) -> None:
    feed, engine = Feed(log), new_engine("live")
    live = a_consumer(log, engine, clock)
    feed.anything(random.Random(3), 300)
    drain(live)
    report = erase_subject(engine, Store(engine, LIMITS, FEEDBACK).erased, LIMITS, APP, "ann", 1)
    assert report.events
    assert report.generations
    feed.anything(random.Random(4), 100)
    drain(live)

    assert copy_from(engine, new_engine("replayed")) == 1
    drain(a_consumer(log, new_engine("replayed")))
    # Numbers were given to examples before the erasure that a replay never makes.
    numbers = ("sequence", "example_sequence", "id")
    before, after = (rows_of(new_engine(name), without=numbers) for name in ("live", "replayed"))
    for rows in (before, after):
        assert "ann" not in repr(rows["generations"]) + repr(rows["feedback"]) + repr(rows["prompts"])
    for table in ("generations", "feedback", "mentions", "conflicts", "examples", "example_subjects"):
        assert after[table] == before[table]


def test_two_joins_on_one_database_count_everything_once(
    log: MemoryEventLog, new_engine: Callable[[str], Engine], clock: Clock
) -> None:
    Feed(log).anything(random.Random(5), 200)
    one, zombie = (a_consumer(log, new_engine("shared"), batch_records=20) for _ in range(2))
    one.step()
    with pytest.raises(OffsetConflict):
        zombie.step()
    drain(one)
    drain(a_consumer(log, new_engine("alone"), clock))
    assert rows_of(new_engine("shared")) == rows_of(new_engine("alone"))


def test_what_never_came_expires_once_the_log_is_read(log: MemoryEventLog, engine: Engine, clock: Clock) -> None:
    consumer = a_consumer(log, engine, clock)
    Feed(log).event(1)
    drain(consumer)
    consumer.sweep()
    assert Reader(engine).state_counts() == {FeedbackState.PENDING: 1}
    clock.now += LIMITS.pending_ttl_us / 1_000_000 + 10
    drain(consumer)
    consumer.sweep()
    status = Reader(engine).event(APP, an_id(1001))
    assert status is not None
    assert (status.state, status.reason) == (FeedbackState.EXPIRED, "NEVER_CAME")


def test_a_stop_ends_the_loop(log: MemoryEventLog, engine: Engine, clock: Clock) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=a_consumer(log, engine, clock).run, args=[stop])
    thread.start()
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


def test_the_collector_looks_rarely() -> None:
    before = gc.get_threshold()
    try:
        collect_rarely()
        assert gc.get_threshold()[0] > 100_000
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


JOIN_PROCESS = """
import sys, threading
from pathlib import Path
from unit.feedback.join.consuming import a_consumer
from attune.feedback.join.consumer import collect_rarely
from attune.feedback.join.database import open_database
from attune.platform.events.sqlite import SqliteEventLog
folder = Path(sys.argv[1])
consumer = a_consumer(SqliteEventLog(folder), open_database(f"sqlite:///{folder}/killed.db"), batch_records=3)
consumer.run(threading.Event())
"""


def test_a_join_killed_again_and_again_ends_with_the_same_rows(tmp_path: Path) -> None:
    dice = random.Random(11)
    log = SqliteEventLog(tmp_path, clock=Clock())
    feed = Feed(log)
    feed.anything(dice, 400)
    engine = open_database(f"sqlite:///{tmp_path}/killed.db")
    reader = Reader(engine)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    total = 400
    for share in (0.2, 0.5, 0.7, 1.0):
        process = subprocess.Popen([sys.executable, "-c", JOIN_PROCESS, str(tmp_path)], env=environment)
        deadline = time.monotonic() + 60
        while sum(reader.offsets().values()) < share * total:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    whole = open_database(f"sqlite:///{tmp_path}/whole.db")
    for database in (engine, whole):
        drain(a_consumer(log, database))
    assert rows_of(engine) == rows_of(whole)
    engine.dispose()
    whole.dispose()


def test_an_example_holds_the_traces_of_its_event_and_generation_whichever_came_first(
    log: MemoryEventLog, new_engine: Callable[[str], Engine], clock: Clock
) -> None:
    feed, engine = Feed(log), new_engine("waits")
    feed.event(1)
    consumer = a_consumer(log, engine, clock)
    drain(consumer)
    assert Reader(engine).state_counts() == {FeedbackState.PENDING: 1}
    feed.generation()
    drain(consumer)
    drain(a_consumer(log, new_engine("at_once")))
    for name in ("waits", "at_once"):
        (example,) = Reader(new_engine(name)).examples(0, 10, 0).examples
        assert example.feedback_traceparent == f"00-{1:032x}-{1:016x}-01"
        assert list(example.generation_traceparents) == [f"00-{2:032x}-{2:016x}-01"]


def test_a_generation_that_is_recorded_again_in_another_trace_is_the_same(
    log: MemoryEventLog, engine: Engine, clock: Clock
) -> None:
    feed, registry = Feed(log), CollectorRegistry()
    feed.generation()
    feed.generation()
    drain(a_consumer(log, engine, clock, registry=registry))
    assert registry.get_sample_value("attune_join_events_total", {"result": "generation_duplicate"}) == 1
    assert log.consumer(Topic.DEAD_LETTERS).read(0, 0) == []


def test_a_batch_has_a_span_that_links_to_what_it_brought_together(
    log: MemoryEventLog, engine: Engine, clock: Clock
) -> None:
    feed = Feed(log)
    feed.generation()
    feed.event(1)
    feed.event(2, Rating(completion(99), 1.0))
    with recorded() as spans:
        drain(a_consumer(log, engine, clock))
    linked = {link for span in spans.named("join") for link in links_of(span)}
    assert linked == {f"00-{n:032x}-{n:016x}-01" for n in (1, 2, 3)}
