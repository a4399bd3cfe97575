"""Opens the join database: engine, migrations, and the one place that knows a dialect.

SQLite runs with a write-ahead log and synchronous=FULL, so that what the join has committed survives a power cut;
deleted rows are overwritten, so that erasure erases.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, insert, select, update
from sqlalchemy.engine import make_url

from attune.feedback.join import tables

SERIES = ("examples", "removals", "prompts")
BUSY_TIMEOUT_S = 30
# Values in one IN list; SQLite takes 32766 variables a statement.
LIST_LENGTH = 10_000

T = TypeVar("T")


def open_database(url: str) -> Engine:
    """An engine on a database that is at the newest migration. `url` is SQLAlchemy's, such as sqlite:///join.db.

    A SQLite file is made, with the folder it lies in.
    """
    engine = create_engine(make_url(url), pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        Path(engine.url.database or "").parent.mkdir(parents=True, exist_ok=True)
        event.listen(engine, "connect", _set_pragmas)
    migrate(engine)
    with engine.begin() as connection:
        _create_series(connection)
    return engine


def migrate(engine: Engine) -> None:
    """Brings the schema to the newest migration in one transaction; nothing happens when it is there."""
    config = Config()
    config.set_main_option("script_location", "attune.feedback.join:migrations")
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            # The driver begins no transaction for DDL by itself: a process killed here would leave half a schema.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def become_writer(connection: Connection) -> None:
    """First statement of every writing transaction: writers wait here for each other, on every database.

    On SQLite it takes the write lock before anything is read, so that no reader has to be upgraded and fail.
    """
    counters = tables.counters
    connection.execute(update(counters).where(counters.c.name == "writer").values(value=counters.c.value))


def read_counters(connection: Connection) -> dict[str, int]:
    """Last number given in each series."""
    return {row.name: row.value for row in connection.execute(select(tables.counters))}


def slices(values: Iterable[T]) -> Iterator[list[T]]:
    """The values in lists that fit one statement; nothing for no values."""
    rest = iter(values)
    while some := list(islice(rest, LIST_LENGTH)):
        yield some


def _create_series(connection: Connection) -> None:
    become_writer(connection)
    present = read_counters(connection)
    missing = [{"name": name, "value": 0} for name in ("writer", *SERIES) if name not in present]
    if missing:
        connection.execute(insert(tables.counters), missing)


def _set_pragmas(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA secure_delete = ON")
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
    cursor.close()
