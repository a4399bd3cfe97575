"""The tables fit both databases, and every query of the hot path has an index."""

from __future__ import annotations

import pytest
from attune.domain.feedback import FeedbackState
from attune.feedback.join import tables
from sqlalchemy import Engine, Table, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable


@pytest.mark.parametrize("table", tables.metadata.sorted_tables, ids=str)
def test_every_table_can_be_created_in_postgresql(table: Table) -> None:
    dialect = postgresql.dialect()
    statement = str(CreateTable(table).compile(dialect=dialect))
    assert "SERIAL" not in statement
    for index in table.indexes:
        assert str(CreateIndex(index).compile(dialect=dialect)).startswith("CREATE INDEX")


def test_the_wire_and_the_index_agree_on_pending() -> None:
    assert str(tables.PENDING) == str(int(FeedbackState.PENDING))
    assert str(tables.PENDING_ROWS) == f"state = {int(FeedbackState.PENDING)}"


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (select(tables.feedback).where(tables.feedback.c.opinion_key == b"x"), "feedback_opinion"),
        (
            select(tables.feedback.c.log_us).where(
                tables.feedback.c.state == tables.PENDING, tables.feedback.c.log_us < 5
            ),
            "feedback_pending",
        ),
        (select(tables.feedback).where(tables.feedback.c.day < 5), "feedback_day"),
        (select(tables.mentions).where(tables.mentions.c.generation_id == b"x"), "mentions"),
        (select(tables.prompts).where(tables.prompts.c.sequence > 5), "prompts_sequence"),
    ],
)
def test_hot_queries_use_their_index(engine: Engine, query: object, index: str) -> None:
    compiled = query.compile(engine, compile_kwargs={"literal_binds": True})  # type: ignore[attr-defined]
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            plan = connection.execute(text(f"EXPLAIN QUERY PLAN {compiled}")).all()
        else:
            connection.execute(text("SET enable_seqscan = off"))  # an empty table is read whole, index or not
            plan = connection.execute(text(f"EXPLAIN {compiled}")).all()
    assert index in repr(plan)
