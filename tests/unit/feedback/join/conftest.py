"""A join database in a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attune.feedback.join.database import open_database
from attune.feedback.join.store import Store
from feedback_samples import FEEDBACK, LIMITS
from sqlalchemy import Engine


@pytest.fixture
def new_engine(tmp_path: Path) -> Iterator[Callable[[str], Engine]]:
    """Opens databases by name; a name opened twice is the same file."""
    opened: list[Engine] = []

    def open_one(name: str = "join") -> Engine:
        opened.append(open_database(f"sqlite:///{tmp_path / name}.db"))
        return opened[-1]

    yield open_one
    for engine in opened:
        engine.dispose()


@pytest.fixture
def engine(new_engine: Callable[[str], Engine]) -> Engine:
    return new_engine("join")


@pytest.fixture
def store(engine: Engine) -> Store:
    return Store(engine, LIMITS, FEEDBACK)
