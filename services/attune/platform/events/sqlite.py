"""The embedded event log: one SQLite file a topic, one writing process, any number of reading processes.

Durable by WAL and synchronous=FULL: `append` returns after the fsync of its commit. The writer holds an exclusive
flock on `<topic>.lock` for as long as it lives, so a killed one frees the topic at once. Readers open the file
read-only and see whole commits. One partition, number 0. Refuses a file of another schema version.

Deleted records are overwritten (secure_delete), so that retention also erases.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from attune.domain.errors import EventLogUnavailable, OffsetOutOfRange, TopicHasWriter
from attune.platform.events.log import MAX_READ_BYTES, RETENTION_S, Position, Record, check_lengths

_SCHEMA_VERSION = 1
_SCHEMA = """
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE records (offset INTEGER PRIMARY KEY, append_time REAL NOT NULL, value BLOB NOT NULL);
CREATE TABLE bounds (
    id INTEGER PRIMARY KEY CHECK (id = 0), first_offset INTEGER NOT NULL, end_offset INTEGER NOT NULL,
    last_time REAL NOT NULL
);
INSERT INTO bounds VALUES (0, 0, 0, 0.0);
PRAGMA user_version = 1;
COMMIT;
"""
_TRIM_BATCH = 1000
_BUSY_TIMEOUT_S = 5.0
_PAGE_BYTES = 4096
_MAX_IDLE_WAL_BYTES = 64 * 1024 * 1024


class SqliteEventLog:
    """Topics under one folder. `max_bytes` bounds each topic's file; `clock` gives seconds since the Unix epoch."""

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int | None = None,
        retention_s: Mapping[str, float] = RETENTION_S,
        clock: Callable[[], float] = time.time,
        poll_interval_s: float = 0.02,
    ) -> None:
        self._folder, self._max_bytes, self._retention_s = folder, max_bytes, retention_s
        self._clock, self._poll_interval_s = clock, poll_interval_s

    def producer(self, topic: str) -> SqliteProducer:
        return SqliteProducer(self._path(topic), self._retention_s.get(topic), self._max_bytes, self._clock)

    def consumer(self, topic: str) -> SqliteConsumer:
        return SqliteConsumer(self._path(topic), self._poll_interval_s)

    def _path(self, topic: str) -> Path:
        return self._folder / f"{topic}.sqlite"


class SqliteProducer:
    """The one writer of a topic."""

    def __init__(
        self, path: Path, retention_s: float | None, max_bytes: int | None, clock: Callable[[], float]
    ) -> None:
        self._path, self._retention_s, self._max_bytes, self._clock = path, retention_s, max_bytes, clock
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._is_closed = False
        self._lock_file = _take_writer_lock(path)
        try:
            with _errors_of(path):
                _create_file(path)
                self._connection = self._connect()
        except BaseException:
            os.close(self._lock_file)
            raise

    def _connect(self) -> sqlite3.Connection:
        connection = _open(str(self._path))
        try:
            _check_version(connection, self._path)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute(f"PRAGMA journal_size_limit = {_MAX_IDLE_WAL_BYTES}")
            if self._max_bytes is not None:
                connection.execute(f"PRAGMA max_page_count = {max(1, self._max_bytes // _PAGE_BYTES)}")
        except BaseException:
            connection.close()
            raise
        return connection

    def append(self, values: Sequence[bytes]) -> list[Position]:
        check_lengths(values)
        with self._transaction() as connection:
            end, last_time = connection.execute("SELECT end_offset, last_time FROM bounds").fetchone()
            now = max(last_time, self._clock())
            rows = [(end + index, now, value) for index, value in enumerate(values)]
            connection.executemany("INSERT INTO records VALUES (?, ?, ?)", rows)
            connection.execute("UPDATE bounds SET end_offset = ?, last_time = ?", (end + len(rows), now))
        return [Position(0, offset) for offset, _, _ in rows]

    def trim(self, now_s: float) -> int:
        """In batches, so that appends are not held up for long."""
        if self._retention_s is None:
            return 0
        total = 0
        while dropped := self._trim_batch(now_s - self._retention_s):
            total += dropped
        return total

    def _trim_batch(self, before_s: float) -> int:
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT offset, append_time FROM records ORDER BY offset LIMIT ?", (_TRIM_BATCH,)
            ).fetchall()
            expired = [offset for offset, append_time in rows if append_time < before_s]
            if expired:
                connection.execute("DELETE FROM records WHERE offset <= ?", (expired[-1],))
                connection.execute("UPDATE bounds SET first_offset = ?", (expired[-1] + 1,))
        return len(expired)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One commit, durable at the end of the block; nothing of it is kept if an error leaves the block."""
        with self._lock, _errors_of(self._path):
            if self._is_closed:
                raise EventLogUnavailable(f"the producer of {self._path.stem} is closed")
            connection = self._connection = self._connection or self._connect()
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                self._roll_back(connection)
                raise

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        """After a full disk SQLite has often rolled back by itself; a connection that cannot is opened anew."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._connection = None
            connection.close()

    def close(self) -> None:
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            if self._connection is not None:
                self._connection.close()
            os.close(self._lock_file)


class SqliteConsumer:
    """A reader of a topic; the file may appear later."""

    def __init__(self, path: Path, poll_interval_s: float) -> None:
        self._path, self._poll_interval_s = path, poll_interval_s
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._closed = threading.Event()

    def partitions(self) -> list[int]:
        return [0]

    def first_offset(self, partition: int) -> int:
        return self._bounds(partition)[0]

    def end_offset(self, partition: int) -> int:
        return self._bounds(partition)[1]

    def read(
        self, partition: int, next_offset: int, max_records: int = 256, max_bytes: int = MAX_READ_BYTES
    ) -> list[Record]:
        _check_partition(partition)
        with self._snapshot() as connection:
            first, end = _bounds_in(connection)
            if not first <= next_offset <= end:
                raise OffsetOutOfRange.at(self._path.stem, partition, next_offset, first, end)
            return [] if connection is None else _records_from(connection, next_offset, max_records, max_bytes)

    def wait(self, next_offsets: Mapping[int, int], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not self._closed.is_set():
            # An offset beyond the end counts: the read that follows reports it.
            if any(self.end_offset(partition) != offset for partition, offset in next_offsets.items()):
                return True
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                return False
            self._closed.wait(min(self._poll_interval_s, remaining_s))
        return False

    def report(self, group: str, next_offsets: Mapping[int, int]) -> None:
        """The join's metrics say it; this log has no tools of its own."""

    def _bounds(self, partition: int) -> tuple[int, int]:
        _check_partition(partition)
        with self._snapshot() as connection:
            return _bounds_in(connection)

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection | None]:
        """A connection inside a read transaction, short so that the WAL can be reset; None before the file exists."""
        with self._lock, _errors_of(self._path):
            if self._closed.is_set():
                raise EventLogUnavailable(f"the consumer of {self._path.stem} is closed")
            if self._connection is None and self._path.exists():
                self._connection = _connect_read_only(self._path)
            if self._connection is None:
                yield None
                return
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                self._connection.execute("ROLLBACK")

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def _bounds_in(connection: sqlite3.Connection | None) -> tuple[int, int]:
    if connection is None:
        return 0, 0
    first, end = connection.execute("SELECT first_offset, end_offset FROM bounds").fetchone()
    return first, end


def _records_from(connection: sqlite3.Connection, next_offset: int, max_records: int, max_bytes: int) -> list[Record]:
    found: list[Record] = []
    size = 0
    query = "SELECT offset, append_time, value FROM records WHERE offset >= ? ORDER BY offset LIMIT ?"
    for offset, append_time, value in connection.execute(query, (next_offset, max_records)):
        size += len(value)
        if found and size > max_bytes:
            break
        found.append(Record(0, offset, append_time, value))
    return found


def _take_writer_lock(path: Path) -> int:
    """Descriptor of the locked file. TopicHasWriter if another holds it; the kernel frees it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise TopicHasWriter(f"another process writes {path.stem} in {path.parent}") from None
    return descriptor


def _create_file(path: Path) -> None:
    """Makes the file under another name first, so that no reader meets one without tables."""
    if path.exists():
        return
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    connection = sqlite3.connect(new, isolation_level=None)
    try:
        connection.executescript(_SCHEMA)
    finally:
        connection.close()
    new.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _open(target: str) -> sqlite3.Connection:
    return sqlite3.connect(
        target,
        uri=target.startswith("file:"),
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )


def _connect_read_only(path: Path) -> sqlite3.Connection:
    connection = _open(f"{path.absolute().as_uri()}?mode=ro")
    try:
        _check_version(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != _SCHEMA_VERSION:
        raise EventLogUnavailable(f"{path.name} has schema version {version}; this program reads {_SCHEMA_VERSION}")


def _check_partition(partition: int) -> None:
    if partition != 0:
        raise KeyError(partition)


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """A full disk, a lock, a vanished file: to callers the log cannot be used right now, and why is in the message."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise EventLogUnavailable(f"{path.name}: {error}") from error
