"""Statements over many rows, on both databases: any number of rows and values, none included."""

from __future__ import annotations

import pytest
from attune.feedback.join import tables
from attune.feedback.join.statements import LENGTHS, delete_matching, insert_rows, matching_rows
from sqlalchemy import Connection, Engine, select

SEQUENCES = select(tables.removals.c.sequence)


def rows_in(connection: Connection) -> list[tuple[int, int, int]]:
    return sorted(map(tuple, connection.execute(select(tables.removals))))


@pytest.mark.parametrize("number", [0, 1, 2, LENGTHS[-1], LENGTHS[-1] + 11])
def test_rows_go_in_are_found_and_go(engine: Engine, number: int) -> None:
    rows = [(n, 10 * n, 1) for n in range(number)]
    with engine.begin() as connection:
        insert_rows(connection, tables.removals, rows)
        assert rows_in(connection) == rows
        wanted = {n for n, *_ in rows} | {-1}
        found = matching_rows(connection, SEQUENCES, tables.removals.c.id, wanted)
        assert sorted(row.sequence for row in found) == [sequence for _, sequence, _ in rows]
        delete_matching(connection, tables.removals, tables.removals.c.id, range(1, number))
        assert rows_in(connection) == rows[:1]


def test_no_values_match_nothing(engine: Engine) -> None:
    with engine.begin() as connection:
        insert_rows(connection, tables.removals, [(1, 1, 1)])
        assert list(matching_rows(connection, SEQUENCES, tables.removals.c.id, [])) == []
        delete_matching(connection, tables.removals, tables.removals.c.id, [])
        assert len(rows_in(connection)) == 1


def test_every_kind_of_value_comes_back(engine: Engine) -> None:
    row = (b"\x00\xff" * 8, "shöp", "", b"", b"h" * 32, 3, 2**60, True, 9)
    with engine.begin() as connection:
        insert_rows(connection, tables.generations, [row])
        (found,) = matching_rows(
            connection, select(tables.generations), tables.generations.c.generation_id, [row[0], b""]
        )
        assert tuple(found) == row
