"""A run fails for what it must fail for, and for nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos.feedback import Options, faults, main, new_database

OPTIONS = Options(events=100, kills=3)
WELL = {"acknowledged": 104, "lost": 0, "counted_twice": 0, "wrong_answers": 0, "unclean_stops": 0, "kills": 3}


def test_a_run_in_which_all_is_well_does_not_fail() -> None:
    assert faults(WELL, OPTIONS) == []


@pytest.mark.parametrize(
    ("figure", "value"),
    [("lost", 1), ("counted_twice", 1), ("wrong_answers", 1), ("unclean_stops", 1), ("kills", 2), ("acknowledged", 99)],
)
def test_a_run_fails_for_each_fault(figure: str, value: int) -> None:
    assert faults(WELL | {figure: value}, OPTIONS) == [figure]


def test_the_join_uses_sqlite_unless_told_otherwise(tmp_path: Path) -> None:
    with new_database(tmp_path, on_postgres=False) as database:
        assert database.environment == {}
        assert database.url == f"sqlite:///{tmp_path}/attune-data/join.db"


def test_the_help_tells_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert all(option in said for option in ("--events", "--kills", "--cuts", "--minutes", "--seed", "--postgres"))
