"""The tables of the join database, in SQLAlchemy Core, the same for SQLite and PostgreSQL.

Ids are 16 bytes, hashes 32, times microseconds of the log's clock. What expires carries `day` or `minute` (since the
epoch) with an index, so that it is deleted by age; a PostgreSQL of many days may partition feedback, mentions and
conflicts by range of `day` without a change here, for the join, the only writer, checks uniqueness itself.

Every event costs an entry in each index of its tables, and an entry at a place of its own costs a page of the disk.
So keys begin with what grows with time: ids are UUIDs of version 7, opinion keys begin with one, and people are
indexed below a `minute` or a `run` of examples, of which a search for a person visits each. What only few rows need is
a partial index. Migrations in `migrations/` create what stands here; a test holds the two together.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    literal_column,
    text,
)

NAME = String(200)
# In SQLite an integer key is the row's own number, and needs no index.
NUMBER = BigInteger().with_variant(Integer, "sqlite")
# States as literals, not bound values, so that queries with them are answered from the indexes of such rows.
PENDING: ColumnElement[int] = literal_column("2")
JOINED: ColumnElement[int] = literal_column("3")
SUPERSEDED: ColumnElement[int] = literal_column("4")
PENDING_ROWS, OTHER_ROWS = text("state = 2"), text("state <> 3")

metadata = MetaData()

# Next number of each series: examples, removals, prompts. The row "writer" is what every writing transaction touches
# first, so that writers stand in a row and numbers become visible in the order of commits.
counters = Table(
    "counters",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

# How far each partition was read; moved in the transaction of the effect.
offsets = Table(
    "offsets",
    metadata,
    Column("topic", NAME, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("next_offset", BigInteger, nullable=False),
)

generations = Table(
    "generations",
    metadata,
    Column("generation_id", LargeBinary(16), primary_key=True),
    Column("app_id", NAME, primary_key=True),
    Column("subject_id", NAME, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("prompt_hash", LargeBinary(32), nullable=False),
    Column("completions", SmallInteger, nullable=False),
    Column("record_us", BigInteger, nullable=False),
    Column("is_erased", Boolean, nullable=False),
    Column("minute", Integer, nullable=False),
    Index("generations_subject", "minute", "subject_id", "app_id"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("event_id", LargeBinary(16), primary_key=True),
    Column("app_id", NAME, primary_key=True),
    Column("subject_id", NAME, nullable=False),
    Column("body_hash", LargeBinary(32), nullable=False),
    Column("opinion_key", LargeBinary(32), nullable=False),
    Column("log_us", BigInteger, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("index", Integer, nullable=False),
    Column("accept_us", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("reason", String(63), nullable=False),
    Column("example_sequence", BigInteger, nullable=False),
    Column("traceparent", String(55), nullable=False, server_default=""),
    Column("day", Integer, nullable=False),
    Index("feedback_day", "day", "state"),
    Index("feedback_opinion", "opinion_key"),
    Index(
        "feedback_subject",
        "subject_id",
        "app_id",
        sqlite_where=OTHER_ROWS,
        postgresql_where=OTHER_ROWS,
    ),
    Index("feedback_pending", "log_us", sqlite_where=PENDING_ROWS, postgresql_where=PENDING_ROWS),
)

# Which generations an event names that waits for them, or that holds words and is no example; erasure follows it.
mentions = Table(
    "mentions",
    metadata,
    Column("generation_id", LargeBinary(16), primary_key=True),
    Column("app_id", NAME, primary_key=True),
    Column("event_id", LargeBinary(16), primary_key=True),
    Column("day", Integer, nullable=False),
    Index("mentions_event", "event_id", "app_id"),
    Index("mentions_day", "day"),
    sqlite_with_rowid=False,
)

# Later events that used a taken id for another body, by where they stand in the log.
conflicts = Table(
    "conflicts",
    metadata,
    Column("topic", NAME, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("offset", BigInteger, primary_key=True, autoincrement=False),
    Column("index", Integer, primary_key=True, autoincrement=False),
    Column("event_id", LargeBinary(16), nullable=False),
    Column("app_id", NAME, nullable=False),
    Column("subject_id", NAME, nullable=False),
    Column("body_hash", LargeBinary(32), nullable=False),
    Column("day", Integer, nullable=False),
    Index("conflicts_event", "event_id", "app_id"),
    Index("conflicts_day", "day"),
)

examples = Table(
    "examples",
    metadata,
    Column("sequence", NUMBER, primary_key=True, autoincrement=False),
    Column("event_id", LargeBinary(16), nullable=False),
    Column("app_id", NAME, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("accept_us", BigInteger, nullable=False),
    Column("generation_us", BigInteger, nullable=False),
)

IS_EXAMPLE_OF_EVENT = (examples.c.sequence == feedback.c.example_sequence) & (feedback.c.state == JOINED)

# Whose words an example holds: the person who judged and those the completions were written for.
example_subjects = Table(
    "example_subjects",
    metadata,
    Column("run", Integer, primary_key=True, autoincrement=False),
    Column("subject_id", NAME, primary_key=True),
    Column("app_id", NAME, primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Index("example_subjects_sequence", "sequence"),
    sqlite_with_rowid=False,
)

removals = Table(
    "removals",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, nullable=False),
    Column("reason", SmallInteger, nullable=False),
)

prompts = Table(
    "prompts",
    metadata,
    Column("sequence", NUMBER, primary_key=True, autoincrement=False),
    Column("prompt_hash", LargeBinary(32), nullable=False),
    Column("prompt", LargeBinary, nullable=False),
    Column("app_id", NAME, nullable=False),
    Column("subject_id", NAME, nullable=False),
    Index("prompts_hash", "prompt_hash", unique=True),
    Index("prompts_subject", "subject_id", "app_id"),
)

# Salted hashes of erased people: no name stands here, and every replay checks it.
erased_subjects = Table(
    "erased_subjects",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("erase_us", BigInteger, nullable=False),
)

salts = Table(
    "salts",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("salt", LargeBinary(32), nullable=False),
)

# Freshness: policy revisions seen in user traffic, and reward revisions already counted as served.
seen_policies = Table(
    "seen_policies",
    metadata,
    Column("revision", NAME, primary_key=True),
    Column("first_us", BigInteger, nullable=False),
    Column("is_resolved", Boolean, nullable=False),
)

served_rewards = Table(
    "served_rewards",
    metadata,
    Column("revision", NAME, primary_key=True),
    Column("first_us", BigInteger, nullable=False),
)
