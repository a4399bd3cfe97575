"""Opening, migrating, and writers that stand in a row."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from attune.domain.errors import ConfigurationInvalid
from attune.feedback.join import tables
from attune.feedback.join.database import become_writer, migrate, open_database, open_existing, read_counters
from sqlalchemy import Engine, create_engine, inspect, text, update


def test_a_second_start_changes_nothing(new_engine: Callable[[str], Engine]) -> None:
    new_engine("join").dispose()
    with new_engine("join").connect() as connection:
        assert read_counters(connection) == {"writer": 0, "examples": 0, "removals": 0, "prompts": 0}


def test_a_file_is_made_with_its_folder(tmp_path: Path) -> None:
    open_database(f"sqlite:///{tmp_path / 'made on the way' / 'join.db'}").dispose()
    assert (tmp_path / "made on the way" / "join.db").is_file()


def test_a_migration_that_fails_leaves_nothing_behind(new_url: Callable[[str], str]) -> None:
    engine = create_engine(new_url("join"))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE prompts (other INTEGER)"))
    with pytest.raises(Exception, match="prompts"):
        migrate(engine)
    assert inspect(engine).get_table_names() == ["prompts"]
    engine.dispose()


def test_processes_may_start_at_once(new_engine: Callable[[str], Engine]) -> None:
    engines: list[Engine] = []
    threads = [threading.Thread(target=lambda: engines.append(new_engine("join"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(engines) == 4


def test_a_database_is_opened_as_it_is_or_not_at_all(
    new_url: Callable[[str], str], new_engine: Callable[[str], Engine]
) -> None:
    with pytest.raises(ConfigurationInvalid, match="start the join on it once") as caught:
        open_existing(new_url("join"))
    assert "attune:***" in caught.value.message or "sqlite" in caught.value.message
    new_engine("join")
    engine = open_existing(new_url("join"))
    with engine.connect() as connection:
        assert read_counters(connection)
    engine.dispose()


@pytest.mark.parametrize("url", ["mysql://ann@db/join", "postgresql://ann@db/join", "join.db"])
def test_another_database_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationInvalid, match="database"):
        open_database(url)


def test_commits_of_sqlite_are_durable_and_deletions_real(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'join.db'}")
    with engine.connect() as connection:
        settings = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
        assert settings == ["wal", 2]
        assert connection.exec_driver_sql("PRAGMA secure_delete").scalar() == 1
    engine.dispose()


def test_writers_stand_in_a_row(engine: Engine) -> None:
    """Each reads, then writes what it read and one more: without the row, some would be lost."""
    counters = tables.counters

    def count() -> None:
        for _ in range(20):
            with engine.begin() as connection:
                become_writer(connection)
                last = read_counters(connection)["examples"]
                connection.execute(update(counters).where(counters.c.name == "examples").values(value=last + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with engine.connect() as connection:
        assert read_counters(connection)["examples"] == 80
