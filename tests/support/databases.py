"""Join databases of every kind that the join knows, as fixtures: a file of SQLite, a schema of PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from attune.feedback.join.database import open_database
from sqlalchemy import Engine
from support.postgres import PostgresServer

NUMBERS = count()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """URLs of databases by name; a name means the same database whenever a test asks for it."""
    if request.param == "sqlite":
        return lambda name: f"sqlite:///{tmp_path / name}.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    prefix = f"test_{next(NUMBERS)}"
    return lambda name: server.url(f"{prefix}_{name}")


@pytest.fixture
def new_engine(new_url: Callable[[str], str]) -> Iterator[Callable[[str], Engine]]:
    """Opens databases by name, at the newest migration."""
    opened: list[Engine] = []

    def open_one(name: str = "join") -> Engine:
        opened.append(open_database(new_url(name)))
        return opened[-1]

    yield open_one
    for engine in opened:
        engine.dispose()
