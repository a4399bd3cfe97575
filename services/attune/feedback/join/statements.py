"""Statements over many rows, compiled once a dialect and run with plain tuples.

SQLite gets rows by executemany, and lists of values as parameters of a few fixed numbers, so that it prepares each
statement once. PostgreSQL gets both as arrays: one statement whatever the number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    CursorResult,
    Delete,
    Dialect,
    Insert,
    Select,
    Table,
    any_,
    bindparam,
    delete,
    func,
    insert,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY

# Values in one list of SQLite, which takes 32766 at most.
LENGTHS = (1, 10, 100, 1000)


def insert_rows(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Inserts rows whose values stand in the order of the table's columns."""
    if not rows:
        return
    statement = _insertion(table, connection.dialect)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(statement, list(rows))
    else:
        columns = map(list, zip(*rows, strict=True))
        connection.exec_driver_sql(statement, dict(zip(table.c.keys(), columns, strict=True)))


def matching_rows(
    connection: Connection, query: Select[Any], column: ColumnElement[Any], values: Iterable[Any]
) -> Iterator[Any]:
    """The rows of a query whose column is one of the values.

    The query is compiled once and kept: let it be a constant of its module, without bound values.
    """
    for result in _run(connection, query, column, values):
        yield from result


def delete_matching(connection: Connection, table: Table, column: ColumnElement[Any], values: Iterable[Any]) -> None:
    """Deletes the rows whose column is one of the values."""
    for _ in _run(connection, _deletion(table), column, values):
        pass


def _run(
    connection: Connection, statement: Select[Any] | Delete, column: ColumnElement[Any], values: Iterable[Any]
) -> Iterator[CursorResult[Any]]:
    if connection.dialect.name == "sqlite":
        for some in _lists(values):
            yield connection.exec_driver_sql(_with_list(statement, column, len(some), connection.dialect), some)
    elif wanted := list(values):
        yield connection.exec_driver_sql(_with_array(statement, column, connection.dialect), {"wanted": wanted})


def _lists(values: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """The values in lists of the known lengths; the last value fills a list up."""
    rest = iter(values)
    while some := tuple(islice(rest, LENGTHS[-1])):
        length = next(length for length in LENGTHS if length >= len(some))
        yield some + some[-1:] * (length - len(some))


@lru_cache
def _deletion(table: Table) -> Delete:
    return delete(table)


@lru_cache
def _insertion(table: Table, dialect: Dialect) -> str:
    if dialect.name == "sqlite":
        return str(insert(table).compile(dialect=dialect))
    columns = [func.unnest(bindparam(column.name, type_=ARRAY(column.type))) for column in table.c]
    return _in_binary(insert(table).from_select(table.c.keys(), select(*columns)), dialect)


@lru_cache
def _with_list(statement: Select[Any] | Delete, column: ColumnElement[Any], length: int, dialect: Dialect) -> str:
    listed = statement.where(column.in_([b""] * length))
    return str(listed.compile(dialect=dialect, compile_kwargs={"render_postcompile": True}))


@lru_cache
def _with_array(statement: Select[Any] | Delete, column: ColumnElement[Any], dialect: Dialect) -> str:
    wanted = bindparam("wanted", type_=ARRAY(column.type))
    return _in_binary(statement.where(column == any_(wanted)), dialect)


def _in_binary(statement: Insert | Select[Any] | Delete, dialect: Dialect) -> str:
    """The statement for psycopg with its arrays in binary: bytes as text cost ten times as much."""
    return str(statement.compile(dialect=dialect)).replace(")s::", ")b::")
