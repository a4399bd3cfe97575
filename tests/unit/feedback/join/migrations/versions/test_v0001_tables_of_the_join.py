"""The first migration creates its tables, and takes them away again."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Engine, inspect


def test_it_can_be_taken_back(
    bare_engine: Engine, upgrade: Callable[[str], None], downgrade: Callable[[str], None]
) -> None:
    upgrade("0001")
    assert "feedback" in inspect(bare_engine).get_table_names()
    downgrade("base")
    assert inspect(bare_engine).get_table_names() == ["alembic_version"]
