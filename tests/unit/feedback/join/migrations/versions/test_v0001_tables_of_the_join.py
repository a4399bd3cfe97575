"""The first migration creates what tables.py says, and takes it away again."""

from __future__ import annotations

from collections.abc import Callable

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from attune.feedback.join.database import migrate
from attune.feedback.join.tables import metadata
from sqlalchemy import create_engine, inspect


def test_it_creates_the_tables_of_the_code(new_url: Callable[[str], str]) -> None:
    engine = create_engine(new_url("join"))
    migrate(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_it_can_be_taken_back(new_url: Callable[[str], str]) -> None:
    engine = create_engine(new_url("join"))
    migrate(engine)
    config = Config()
    config.set_main_option("script_location", "attune.feedback.join:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()
