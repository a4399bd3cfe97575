"""The environment runs migrations inside the transaction of the connection that it is handed."""

from __future__ import annotations

from collections.abc import Callable

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, inspect


def test_the_caller_decides_whether_the_migration_stays(new_url: Callable[[str], str]) -> None:
    engine = create_engine(new_url("join"))
    config = Config()
    config.set_main_option("script_location", "attune.feedback.join:migrations")
    with engine.connect() as connection:
        connection.begin()
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        assert inspect(connection).has_table("examples")
        connection.rollback()
        assert not inspect(connection).has_table("examples")
    engine.dispose()
