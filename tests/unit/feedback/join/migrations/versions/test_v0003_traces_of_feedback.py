"""The third migration ends at what tables.py says, takes the rows of an older join as untraced, and has a way back."""

from __future__ import annotations

import random
from collections.abc import Callable

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from attune.feedback.join import tables
from attune.feedback.join.database import open_database
from attune.feedback.join.store import Store
from feedback_samples import FEEDBACK, LIMITS, rows_of
from sqlalchemy import Engine
from unit.feedback.join.logs import a_log


def test_it_ends_at_the_tables_of_the_code(bare_engine: Engine, upgrade: Callable[[str], None]) -> None:
    upgrade("head")
    with bare_engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


def test_rows_of_an_older_join_are_untraced(
    bare_engine: Engine, upgrade: Callable[[str], None], downgrade: Callable[[str], None]
) -> None:
    open_database(bare_engine.url.render_as_string(hide_password=False)).dispose()
    Store(bare_engine, LIMITS, FEEDBACK).commit(a_log(random.Random(4), 100), [])
    written = rows_of(bare_engine)
    downgrade("0002")
    assert rows_of(bare_engine, without=["traceparent"])["feedback"]
    upgrade("head")
    assert rows_of(bare_engine) == written
