"""attune demo: what is refused at once, and what its bars say. The story itself is a test of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from attune.cli.demo import AT_LEAST, AT_MOST, demo, missed_bars, with_own_topics
from attune.domain.errors import ConfigurationInvalid, InvalidInput
from attune.simulation.taste import BadJudge
from click.testing import CliRunner


def test_a_folder_that_holds_something_is_refused(runner: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("keep me")
    result = runner.invoke(demo, ["--out", str(tmp_path)])
    assert isinstance(result.exception, InvalidInput)
    assert "is not empty" in result.exception.message


def test_an_earlier_run_that_is_none_is_refused(runner: CliRunner, tmp_path: Path) -> None:
    result = runner.invoke(demo, ["--out", str(tmp_path / "new"), "--reuse", str(tmp_path)])
    assert isinstance(result.exception, InvalidInput)


def test_an_engine_without_its_environment_is_refused_before_anything_is_made(
    runner: CliRunner, tmp_path: Path
) -> None:
    result = runner.invoke(demo, ["--out", str(tmp_path / "new"), "--engine", "vllm", "--vllm", str(tmp_path / "no")])
    assert isinstance(result.exception, ConfigurationInvalid)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("judge", ["nowhere.py:judge", "judge"])
def test_a_judge_that_is_none_is_refused_before_anything_is_made(runner: CliRunner, tmp_path: Path, judge: str) -> None:
    result = runner.invoke(demo, ["--out", str(tmp_path / "new"), "--judge", judge])
    assert isinstance(result.exception, BadJudge)
    assert not (tmp_path / "new").exists()


def test_a_run_on_kafka_has_topics_of_its_own() -> None:
    assert with_own_topics([]) == []
    given = ["kafka.bootstrap=127.0.0.1:9092", "kafka.topic_prefix=team."]
    first, second = with_own_topics(given), with_own_topics(given)
    assert first[:2] == given
    assert first[2].startswith("kafka.topic_prefix=team.demo-")
    assert first != second


def test_bars() -> None:
    good = dict(AT_LEAST) | dict(AT_MOST) | {"wall_s": 600.0}
    assert missed_bars(good) == []
    assert missed_bars(good | {"win_rate": 0.84, "failed_requests": 1}) == [
        "win_rate 0.84 < 0.85",
        "failed_requests 1 > 0",
    ]
    assert missed_bars(good | {"wall_s": 601.0}) == ["wall_s 601 > 600.0"]
    assert missed_bars(good | {"wall_s": 900.0}, "vllm") == []
    assert missed_bars(good | {"wall_s": 901.0}, "vllm") == ["wall_s 901 > 900.0"]
    assert missed_bars(good | {"kl": float("nan")}) == ["kl nan > 5.0"]
    assert missed_bars(good | {"freshness_p50_s": None}) == ["freshness_p50_s was not measured"]
