"""The migrations create exactly what tables.py says."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from attune.feedback.join.database import migrate, open_database
from attune.feedback.join.tables import metadata
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable


def test_the_migrations_create_the_tables_of_the_code(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'join.db'}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'join.db'}"
    open_database(url).dispose()
    engine = open_database(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM counters")).scalar() == 4
    engine.dispose()


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'join.db'}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE prompts (other INTEGER)"))
    with pytest.raises(Exception, match="prompts"):
        migrate(engine)
    assert inspect(engine).get_table_names() == ["prompts"]
    engine.dispose()


def test_every_table_can_be_created_in_postgresql() -> None:
    dialect = postgresql.dialect()
    for table in metadata.sorted_tables:
        assert "BYTEA" in str(CreateTable(table).compile(dialect=dialect)) or table.name in (
            "counters",
            "offsets",
            "example_subjects",
            "removals",
            "seen_policies",
            "served_rewards",
        )
        for index in table.indexes:
            assert str(CreateIndex(index).compile(dialect=dialect))
