"""Spare what most rows do not need: mentions and bodies of events that are examples, index entries, scattered keys.

Tables whose key changes are made anew and filled from the old ones. Opinion keys begin with a generation's id from
here on. There is no way back: the mentions of examples are gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

Columns = list[sa.Column[Any]]
NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
OTHER_ROWS = sa.text("state <> 3")
ARE_MENTIONED = (
    "EXISTS (SELECT 1 FROM feedback f WHERE f.event_id = old_mentions.event_id AND f.app_id = old_mentions.app_id "
    "AND (f.state = 2 OR (f.state <> 3 AND length(f.body) > 0)))"
)

feedback = sa.table(
    "feedback",
    *map(sa.column, ("event_id", "app_id", "opinion_key", "state")),
    sa.column("body", sa.LargeBinary),
)
mentions = sa.table("mentions", *map(sa.column, ("event_id", "app_id", "generation_id")))


def upgrade() -> None:
    _begin_opinion_keys_with_generations()
    op.execute(sa.update(feedback).where(feedback.c.state == 3).values(body=b""))
    _index_feedback()
    _make_generations()
    _make_mentions()
    _make_example_tables()
    _make_prompts()


def downgrade() -> None:
    raise NotImplementedError("the mentions of examples are gone: replay the log into a database of the older release")


def _begin_opinion_keys_with_generations() -> None:
    op.create_index("mentions_event", "mentions", ["event_id", "app_id"])
    naming = (mentions.c.event_id == feedback.c.event_id) & (mentions.c.app_id == feedback.c.app_id)
    first = sa.select(mentions.c.generation_id).where(naming).order_by(mentions.c.generation_id).limit(1)
    key = first.scalar_subquery().op("||")(sa.func.substr(feedback.c.opinion_key, 1, 16))
    has_one = sa.exists(sa.select(mentions.c.event_id).where(naming))
    op.execute(sa.update(feedback).where(has_one).values(opinion_key=sa.cast(key, sa.LargeBinary)))
    op.drop_index("mentions_event", "mentions")


def _index_feedback() -> None:
    op.drop_index("feedback_day", "feedback")
    op.create_index("feedback_day", "feedback", ["day", "state"])
    op.drop_index("feedback_subject", "feedback")
    op.create_index(
        "feedback_subject",
        "feedback",
        ["subject_id", "app_id"],
        sqlite_where=OTHER_ROWS,
        postgresql_where=OTHER_ROWS,
    )


def _make_generations() -> None:
    op.drop_index("generations_day", "generations")
    op.drop_index("generations_subject", "generations")
    columns: Columns = [_bytes("generation_id", 16), _name("app_id"), _name("subject_id"), _bytes("content")]
    columns += [_bytes("prompt_hash", 32), sa.Column("completions", sa.SmallInteger, nullable=False)]
    columns += [_big("record_us"), sa.Column("is_erased", sa.Boolean, nullable=False), _int("minute")]
    _make_anew("generations", columns, ("generation_id", "app_id"), values={"minute": "record_us / 60000000"})
    op.create_index("generations_subject", "generations", ["minute", "subject_id", "app_id"])


def _make_mentions() -> None:
    op.drop_index("mentions_day", "mentions")
    key = ("generation_id", "app_id", "event_id")
    columns: Columns = [_bytes("generation_id", 16), _name("app_id"), _bytes("event_id", 16), _int("day")]
    _make_anew("mentions", columns, key, ARE_MENTIONED, sqlite_with_rowid=False)
    op.create_index("mentions_event", "mentions", ["event_id", "app_id"])
    op.create_index("mentions_day", "mentions", ["day"])


def _make_example_tables() -> None:
    columns: Columns = [_number("sequence"), _bytes("event_id", 16), _name("app_id"), _bytes("content")]
    _make_anew("examples", [*columns, _big("accept_us"), _big("generation_us")], ("sequence",))
    op.drop_index("example_subjects_sequence", "example_subjects")
    key = ("run", "subject_id", "app_id", "sequence")
    columns = [_int("run"), _name("subject_id"), _name("app_id"), _big("sequence")]
    _make_anew("example_subjects", columns, key, values={"run": "sequence / 65536"}, sqlite_with_rowid=False)
    op.create_index("example_subjects_sequence", "example_subjects", ["sequence"])


def _make_prompts() -> None:
    op.drop_index("prompts_sequence", "prompts")
    op.drop_index("prompts_subject", "prompts")
    columns: Columns = [
        _number("sequence"),
        _bytes("prompt_hash", 32),
        _bytes("prompt"),
        _name("app_id"),
        _name("subject_id"),
    ]
    _make_anew("prompts", columns, ("sequence",))
    op.create_index("prompts_hash", "prompts", ["prompt_hash"], unique=True)
    op.create_index("prompts_subject", "prompts", ["subject_id", "app_id"])


def _make_anew(
    table: str,
    columns: Columns,
    key: tuple[str, ...],
    condition: str = "true",
    values: Mapping[str, str] = MappingProxyType({}),
    **options: bool,
) -> None:
    """Puts a table in the place of the old one of that name, with those of its rows that meet the condition.

    `values` gives the columns that the old table lacks.
    """
    op.rename_table(table, f"old_{table}")
    op.create_table(table, *columns, sa.PrimaryKeyConstraint(*key), **options)
    names = [column.name for column in columns]
    found = ", ".join(values.get(name, name) for name in names)
    op.execute(f"INSERT INTO {table} ({', '.join(names)}) SELECT {found} FROM old_{table} WHERE {condition}")
    op.drop_table(f"old_{table}")


def _name(column: str) -> sa.Column[str]:
    return sa.Column(column, sa.String(200), nullable=False)


def _bytes(column: str, length: int | None = None) -> sa.Column[bytes]:
    return sa.Column(column, sa.LargeBinary(length), nullable=False)


def _number(column: str) -> sa.Column[int]:
    return sa.Column(column, NUMBER, nullable=False, autoincrement=False)


def _big(column: str) -> sa.Column[int]:
    return sa.Column(column, sa.BigInteger, nullable=False, autoincrement=False)


def _int(column: str) -> sa.Column[int]:
    return sa.Column(column, sa.Integer, nullable=False, autoincrement=False)
