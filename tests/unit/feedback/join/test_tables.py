"""The tables fit both databases, and every query of the hot path has an index."""

from __future__ import annotations

import pytest
from attune.domain.feedback import FeedbackState
from attune.feedback.join import tables
from sqlalchemy import Engine, Table, func, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable


@pytest.mark.parametrize("table", tables.metadata.sorted_tables, ids=str)
def test_every_table_can_be_created_in_postgresql(table: Table) -> None:
    dialect = postgresql.dialect()
    statement = str(CreateTable(table).compile(dialect=dialect))
    assert "SERIAL" not in statement
    for index in table.indexes:
        assert str(CreateIndex(index).compile(dialect=dialect)).startswith("CREATE")


def test_the_wire_and_the_literals_agree() -> None:
    for literal, state in (
        (tables.PENDING, FeedbackState.PENDING),
        (tables.JOINED, FeedbackState.JOINED),
        (tables.SUPERSEDED, FeedbackState.SUPERSEDED),
    ):
        assert str(literal) == str(int(state))
    assert str(tables.PENDING_ROWS) == f"state = {int(FeedbackState.PENDING)}"
    assert str(tables.OTHER_ROWS) == f"state <> {int(FeedbackState.JOINED)}"


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
        (
            select(tables.feedback.c.event_id).where(
                tables.feedback.c.subject_id == "x", tables.feedback.c.state != tables.JOINED
            ),
            "feedback_subject",
        ),
        (select(tables.feedback).where(tables.feedback.c.day < 5), "feedback_day"),
        (select(tables.feedback.c.state, func.count()).group_by(tables.feedback.c.state), "feedback_day"),
        (select(tables.mentions).where(tables.mentions.c.generation_id == b"x"), "mentions"),
        (select(tables.prompts).where(tables.prompts.c.prompt_hash == b"x"), "prompts_hash"),
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
