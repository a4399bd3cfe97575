"""What only the embedded log must stand: killed writers, full disks, other processes, other versions."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from attune.domain.errors import EventLogUnavailable, TopicHasWriter
from attune.platform.events.log import Topic
from attune.platform.events.sqlite import SqliteEventLog

TOPIC = Topic.FEEDBACK


def start(program: str, folder: Path) -> subprocess.Popen[str]:
    """A child process with a producer open on the folder; it prints what the program prints."""
    head = """
        import sys
        from pathlib import Path
        from attune.domain.errors import EventLogUnavailable
        from attune.platform.events.sqlite import SqliteEventLog
        log = SqliteEventLog(Path(sys.argv[1]))
        producer = log.producer("attune.feedback")
    """
    code = textwrap.dedent(head) + textwrap.dedent(program)
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)


APPEND_FOREVER = """
    count = log.consumer("attune.feedback").end_offset(0)
    while True:
        values = [str(count + index).encode() for index in range(1 + count % 7)]
        for position in producer.append(values):
            print(position.offset, flush=True)
        count += len(values)
"""


def test_every_acknowledged_record_survives_kill_9(tmp_path: Path) -> None:
    acknowledged = -1
    for round_ in range(3):
        with start(APPEND_FOREVER, tmp_path) as child:
            for _ in range(40 + 13 * round_):
                acknowledged = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            rest = child.stdout.read().split("\n")
            # The last line may be torn by the kill; a whole one is an acknowledgement.
            acknowledged = max([acknowledged, *(int(line) for line in rest[:-1])])
    consumer = SqliteEventLog(tmp_path).consumer(TOPIC)
    records = consumer.read(0, 0, max_records=100_000)
    consumer.close()
    assert len(records) > acknowledged
    assert [r.offset for r in records] == list(range(len(records)))
    assert [int(r.value) for r in records] == list(range(len(records)))


def test_a_full_disk_is_reported_and_the_log_goes_on_when_there_is_room(tmp_path: Path) -> None:
    program = """
        import resource
        values = [b"x" * 1000] * 20
        stored = 0
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        for _ in range(3):
            try:
                while True:
                    stored += len(producer.append(values))
            except EventLogUnavailable as error:
                print("refused", str(error).replace(chr(10), " "))
        consumer = log.consumer("attune.feedback")
        print(stored, consumer.end_offset(0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(producer.append([b"again"])[0].offset, len(consumer.read(0, 0, 100_000, 10**9)))
    """
    with start(program, tmp_path) as child:
        lines = child.stdout.read().splitlines()
        assert child.wait() == 0
    assert [line.split()[0] for line in lines[:3]] == ["refused"] * 3
    stored, end = map(int, lines[3].split())
    assert stored == end > 0
    assert lines[4] == f"{stored} {stored + 1}"


def test_another_process_cannot_write_while_one_does(tmp_path: Path) -> None:
    with start("print('open', flush=True); sys.stdin.read()", tmp_path) as child:
        assert child.stdout.readline() == "open\n"
        with pytest.raises(TopicHasWriter, match=r"attune\.feedback"):
            SqliteEventLog(tmp_path).producer(TOPIC)
        child.kill()
    producer = SqliteEventLog(tmp_path).producer(TOPIC)
    producer.append([b"a"])
    producer.close()


def test_a_reader_may_come_first_and_reads_a_log_that_nobody_writes(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path)
    early = log.consumer(TOPIC)
    assert early.end_offset(0) == 0
    assert list(tmp_path.iterdir()) == []
    producer = log.producer(TOPIC)
    producer.append([b"a"])
    assert early.end_offset(0) == 1
    early.close()
    producer.close()
    late = log.consumer(TOPIC)
    assert [r.value for r in late.read(0, 0)] == [b"a"]
    late.close()


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path)
    log.producer(TOPIC).close()
    consumer = log.consumer(TOPIC)
    consumer.end_offset(0)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        consumer._connection.execute("DELETE FROM records")
    consumer.close()


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / f"{TOPIC}.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    log = SqliteEventLog(tmp_path)
    for opening in (lambda: log.producer(TOPIC), lambda: log.consumer(TOPIC).end_offset(0)):
        with pytest.raises(EventLogUnavailable, match="version 99"):
            opening()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / f"{TOPIC}.sqlite").write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(EventLogUnavailable, match="not a database"):
        SqliteEventLog(tmp_path).producer(TOPIC)
