"""A database at a chosen migration."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine

Move = Callable[[str], None]


@pytest.fixture
def bare_engine(new_url: Callable[[str], str]) -> Iterator[Engine]:
    """A database without tables."""
    engine = create_engine(new_url("join"))
    yield engine
    engine.dispose()


@pytest.fixture
def config() -> Config:
    config = Config()
    config.set_main_option("script_location", "attune.feedback.join:migrations")
    return config


@pytest.fixture
def upgrade(bare_engine: Engine, config: Config) -> Move:
    """Takes the database up to a migration."""
    return lambda revision: _move(bare_engine, config, command.upgrade, revision)


@pytest.fixture
def downgrade(bare_engine: Engine, config: Config) -> Move:
    """Takes the database back to a migration."""
    return lambda revision: _move(bare_engine, config, command.downgrade, revision)


def _move(engine: Engine, config: Config, how: Callable[[Config, str], None], revision: str) -> None:
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        how(config, revision)
