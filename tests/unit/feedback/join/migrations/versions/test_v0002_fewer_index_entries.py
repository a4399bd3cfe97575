"""The second migration keeps what an older join has written, and has no way back."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from attune.api.types.v1 import feedback_pb2
from attune.domain.feedback import FeedbackEvent
from attune.feedback.join import tables
from attune.feedback.join.loading import feedback_rows
from attune.feedback.join.rows import said_by
from attune.feedback.join.store import Store
from feedback_samples import FEEDBACK, LIMITS, rows_of
from sqlalchemy import Engine, MetaData, Table, insert, select
from unit.feedback.join.logs import a_log


def test_there_is_no_way_back(upgrade: Callable[[str], None], downgrade: Callable[[str], None]) -> None:
    upgrade("0002")
    with pytest.raises(NotImplementedError, match="replay"):
        downgrade("0001")


def test_rows_of_an_older_join_become_those_of_this_one(
    bare_engine: Engine, upgrade: Callable[[str], None], new_engine: Callable[[str], Engine]
) -> None:
    written = new_engine("written_by_this_release")
    Store(written, LIMITS, FEEDBACK).commit(a_log(random.Random(4), 200), [])
    upgrade("0001")
    _write_as_before(written, bare_engine)
    upgrade("head")
    before, after = rows_of(written), rows_of(bare_engine)
    assert len(before["mentions"]) > 1
    assert after == before


def _write_as_before(source: Engine, target: Engine) -> None:
    """Copies the rows in the columns of before, with whole hashes for opinion keys and the mentions of every event."""
    with source.connect() as read, target.begin() as write:
        for name in ("generations", "conflicts", "removals", "examples", "example_subjects", "prompts"):
            old = Table(name, MetaData(), autoload_with=target)
            rows = [{"day": 0} | row._asdict() for row in read.execute(select(tables.metadata.tables[name]))]
            columns = [column.name for column in old.c]
            if rows:
                write.execute(insert(old), [{column: row[column] for column in columns} for row in rows])
        mentions: list[dict[str, Any]] = []
        for row in feedback_rows(read, read.execute(select(tables.feedback.c.event_id)).scalars()):
            event = FeedbackEvent.from_proto(feedback_pb2.FeedbackEvent.FromString(row.body))
            here = tables.feedback.c.event_id == row.key.id
            values = read.execute(select(tables.feedback).where(here)).one()._asdict()
            whole = {"opinion_key": event.opinion_key, "body": row.body}
            old = Table("feedback", MetaData(), autoload_with=target)
            write.execute(insert(old), [{c.name: (values | whole)[c.name] for c in old.c}])
            key = {"event_id": row.key.id, "app_id": row.key.app_id, "day": values["day"]}
            mentions += [key | {"generation_id": named.id} for named in said_by(event).generations]
        write.execute(insert(tables.mentions), mentions)
