"""Create the tables of the join."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

PENDING_ROWS = sa.text("state = 2")


def upgrade() -> None:
    _create_positions()
    _create_what_the_log_brought()
    _create_feedback()
    _create_what_the_trainer_reads()
    _create_erasure_and_freshness()


def downgrade() -> None:
    for table in ("served_rewards", "seen_policies", "salts", "erased_subjects", "prompts", "removals"):
        op.drop_table(table)
    for table in ("example_subjects", "examples", "conflicts", "mentions", "feedback", "generations"):
        op.drop_table(table)
    for table in ("offsets", "counters"):
        op.drop_table(table)


def _name(column: str) -> sa.Column[str]:
    return sa.Column(column, sa.String(200), nullable=False)


def _bytes(column: str, length: int | None = None) -> sa.Column[bytes]:
    return sa.Column(column, sa.LargeBinary(length), nullable=False)


def _big(column: str) -> sa.Column[int]:
    return sa.Column(column, sa.BigInteger, nullable=False, autoincrement=False)


def _int(column: str) -> sa.Column[int]:
    return sa.Column(column, sa.Integer, nullable=False, autoincrement=False)


def _small(column: str) -> sa.Column[int]:
    return sa.Column(column, sa.SmallInteger, nullable=False)


def _yes_or_no(column: str) -> sa.Column[bool]:
    return sa.Column(column, sa.Boolean, nullable=False)


def _create_positions() -> None:
    short = sa.Column("name", sa.String(32), nullable=False)
    op.create_table("counters", short, _big("value"), sa.PrimaryKeyConstraint("name"))
    place = (_name("topic"), _int("partition"), _big("next_offset"))
    op.create_table("offsets", *place, sa.PrimaryKeyConstraint("topic", "partition"))


def _create_what_the_log_brought() -> None:
    op.create_table(
        "generations",
        _bytes("generation_id", 16),
        _name("app_id"),
        _name("subject_id"),
        _bytes("content"),
        _bytes("prompt_hash", 32),
        _small("completions"),
        _big("record_us"),
        _yes_or_no("is_erased"),
        _int("day"),
        sa.PrimaryKeyConstraint("generation_id", "app_id"),
    )
    op.create_index("generations_day", "generations", ["day"])
    op.create_index("generations_subject", "generations", ["subject_id", "app_id"])


def _create_feedback() -> None:
    op.create_table(
        "feedback",
        _bytes("event_id", 16),
        _name("app_id"),
        _name("subject_id"),
        _bytes("body_hash", 32),
        _bytes("opinion_key", 32),
        _big("log_us"),
        _int("partition"),
        _big("offset"),
        _int("index"),
        _big("accept_us"),
        _bytes("body"),
        _small("state"),
        sa.Column("reason", sa.String(63), nullable=False),
        _big("example_sequence"),
        _int("day"),
        sa.PrimaryKeyConstraint("event_id", "app_id"),
    )
    op.create_index("feedback_day", "feedback", ["day"])
    op.create_index("feedback_opinion", "feedback", ["opinion_key"])
    op.create_index("feedback_subject", "feedback", ["subject_id", "app_id"])
    op.create_index(
        "feedback_pending", "feedback", ["log_us"], sqlite_where=PENDING_ROWS, postgresql_where=PENDING_ROWS
    )
    op.create_table(
        "mentions",
        _bytes("generation_id", 16),
        _name("app_id"),
        _bytes("event_id", 16),
        _int("day"),
        sa.PrimaryKeyConstraint("generation_id", "app_id", "event_id"),
    )
    op.create_index("mentions_day", "mentions", ["day"])
    place = (_name("topic"), _int("partition"), _big("offset"), _int("index"))
    event = (_bytes("event_id", 16), _name("app_id"), _name("subject_id"), _bytes("body_hash", 32), _int("day"))
    op.create_table("conflicts", *place, *event, sa.PrimaryKeyConstraint("topic", "partition", "offset", "index"))
    op.create_index("conflicts_event", "conflicts", ["event_id", "app_id"])
    op.create_index("conflicts_day", "conflicts", ["day"])


def _create_what_the_trainer_reads() -> None:
    op.create_table(
        "examples",
        _big("sequence"),
        _bytes("event_id", 16),
        _name("app_id"),
        _bytes("content"),
        _big("accept_us"),
        _big("generation_us"),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.create_table(
        "example_subjects",
        _name("subject_id"),
        _name("app_id"),
        _big("sequence"),
        sa.PrimaryKeyConstraint("subject_id", "app_id", "sequence"),
    )
    op.create_index("example_subjects_sequence", "example_subjects", ["sequence"])
    op.create_table("removals", _big("id"), _big("sequence"), _small("reason"), sa.PrimaryKeyConstraint("id"))
    op.create_table(
        "prompts",
        _bytes("prompt_hash", 32),
        _big("sequence"),
        _bytes("prompt"),
        _name("app_id"),
        _name("subject_id"),
        sa.PrimaryKeyConstraint("prompt_hash"),
    )
    op.create_index("prompts_sequence", "prompts", ["sequence"])
    op.create_index("prompts_subject", "prompts", ["subject_id", "app_id"])


def _create_erasure_and_freshness() -> None:
    digest = _bytes("digest", 32)
    op.create_table("erased_subjects", digest, _big("erase_us"), sa.PrimaryKeyConstraint("digest"))
    short = sa.Column("name", sa.String(32), nullable=False)
    op.create_table("salts", short, _bytes("salt", 32), sa.PrimaryKeyConstraint("name"))
    op.create_table(
        "seen_policies",
        _name("revision"),
        _big("first_us"),
        _yes_or_no("is_resolved"),
        sa.PrimaryKeyConstraint("revision"),
    )
    op.create_table("served_rewards", _name("revision"), _big("first_us"), sa.PrimaryKeyConstraint("revision"))
