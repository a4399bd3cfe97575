"""A small run of the chaos; `make chaos-kafka` is the large one."""

from __future__ import annotations

from pathlib import Path

import pytest
from broker import BrokerFailed, fetch
from chaos.feedback import Options, chaos, faults, new_database
from support.parts import missing

OPTIONS = Options(events=10_000, kills=3, cuts=3, minutes=0.3, seed=1)


@pytest.fixture(autouse=True)
def jars() -> None:
    """The test is skipped where there can be no broker."""
    try:
        fetch()
    except BrokerFailed as error:
        missing(f"no Kafka broker: {error}")


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_nothing_is_lost_and_nothing_counts_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with new_database(tmp_path, on_postgres=False) as database:
        figures = await chaos(OPTIONS, tmp_path, database)
    assert faults(figures, OPTIONS) == [], capsys.readouterr().out
    assert figures["acknowledged"] == figures["distinct_on_topic"] == figures["rows_of_join"] >= OPTIONS.events
    assert figures["examples"] > OPTIONS.events * 0.8
    assert figures["pending"] > 0
    assert figures["superseded"] > 0
    assert figures["conflicts"] > 0
