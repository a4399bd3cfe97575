"""Opens the join database, SQLite or PostgreSQL: engine, migrations, and the one place that knows a dialect.

SQLite runs with a write-ahead log and synchronous=FULL, so that what the join has committed survives a power cut;
deleted rows are overwritten, so that erasure erases. PostgreSQL runs as its operator has set it up, at READ COMMITTED;
what is deleted there goes with the next vacuum.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, func, insert, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from attune.domain.errors import ConfigurationInvalid
from attune.feedback.join import tables

SERIES = ("examples", "removals", "prompts")
BUSY_TIMEOUT_S = 30
# Of SQLite: what a batch touches fits, and a page that several batches touch is moved to its place once.
CACHE_KIB, CHECKPOINT_PAGES = 64 * 1024, 16 * 1024
# Of PostgreSQL, unless the URL says otherwise: a server that has vanished is noticed within a minute.
CONNECTION = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
# Any number that no other program on the database takes for its advisory lock.
MIGRATION_LOCK = 7_281_001


def open_database(url: str, password: str = "") -> Engine:
    """An engine on a database that is at the newest migration; a SQLite file is made, with the folder it lies in.

    `url` is SQLAlchemy's, such as sqlite:///join.db or postgresql+psycopg://attune@db.internal/attune.
    ConfigurationInvalid for another database, or if `url` is none.
    """
    engine = _engine(url, password)
    if engine.dialect.name == "sqlite":
        Path(engine.url.database or "").parent.mkdir(parents=True, exist_ok=True)
    migrate(engine)
    with engine.begin() as connection:
        _begin_alone(connection)
        _create_series(connection)
    return engine


def open_existing(url: str, password: str = "") -> Engine:
    """An engine on the database of a join, which is left as it is.

    ConfigurationInvalid if it is not at the newest migration: a join of this release has not opened it yet.
    """
    engine = _engine(url, password)
    file, present = engine.url.database or "", None
    if engine.dialect.name != "sqlite" or Path(file).exists():  # SQLite would make the file
        with engine.connect() as connection:
            present = MigrationContext.configure(connection).get_current_revision()
    newest = ScriptDirectory.from_config(_migrations()).get_current_head()
    if present != newest:
        engine.dispose()
        raise ConfigurationInvalid(f"{engine.url!r} is at migration {present}, not {newest}: start the join on it once")
    return engine


def migrate(engine: Engine) -> None:
    """Brings the schema to the newest migration in one transaction; nothing happens when it is there."""
    config = _migrations()
    with engine.begin() as connection:
        _begin_alone(connection)
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


def _migrations() -> Config:
    config = Config()
    config.set_main_option("script_location", "attune.feedback.join:migrations")
    return config


def _engine(text: str, password: str) -> Engine:
    try:
        url = make_url(text)
    except ArgumentError:
        raise ConfigurationInvalid("database: is no URL such as sqlite:///join.db") from None
    match url.drivername:
        case "sqlite" | "sqlite+pysqlite":
            engine = create_engine(url)
            event.listen(engine, "connect", _set_pragmas)
        case "postgresql+psycopg":
            arguments: dict[str, Any] = {name: CONNECTION[name] for name in CONNECTION.keys() - url.query.keys()}
            arguments |= {"password": password} if password else {}
            engine = create_engine(url, pool_pre_ping=True, connect_args=arguments)
        case other:
            raise ConfigurationInvalid(f"database: {other} is none of sqlite, postgresql+psycopg")
    return engine


def _begin_alone(connection: Connection) -> None:
    """Lets one process at a time change the schema, until the end of the transaction."""
    if connection.dialect.name == "sqlite":
        # The driver begins no transaction for DDL by itself: a process killed here would leave half a schema.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))


def _create_series(connection: Connection) -> None:
    present = read_counters(connection)
    missing = [{"name": name, "value": 0} for name in ("writer", *SERIES) if name not in present]
    if missing:
        connection.execute(insert(tables.counters), missing)


def _set_pragmas(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA secure_delete = ON")
    cursor.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    cursor.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
    cursor.close()
