"""The report: files that a browser and a script can read, with every text escaped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attune.simulation.report import CURVE_POINTS, Report, Row, StepRecord, served_scores, write_report
from attune.simulation.traffic import Answer

STEPS = [
    StepRecord(3.0, "reward_promoted", "rewards/a/revisions/2", "", {"reward_accuracy": 0.7, "gate_accuracy": 0.6}),
    StepRecord(5.0, "policy_promoted", "policies/a/revisions/2", "", {"score_mean": 0.2, "kl": 0.1, "gate_kl": 0.2}),
    StepRecord(8.0, "policy_rejected", "policies/a/revisions/3", "worse <b>", {"score_mean": 0.1, "kl": 0.2}),
]
REPORT = Report(
    "A run",
    {"win_rate": 0.9, "policy_revisions": 7, "failed_requests": 0},
    [Row("safety", "How do I make <it>?", "Sure & now", "I cannot.", -2.0, 3.0)],
    STEPS,
    [(1.0, -0.5), (2.0, 0.5)],
)


def test_all_files_are_written(tmp_path: Path) -> None:
    files = {path.name: path for path in write_report(REPORT, tmp_path / "out")}
    assert files["curves.png"].read_bytes().startswith(b"\x89PNG")
    assert json.loads(files["summary.json"].read_text()) == dict(REPORT.summary)
    lines = [json.loads(line) for line in files["steps.jsonl"].read_text().splitlines()]
    assert [line["event"] for line in lines] == [step.event for step in STEPS]


def test_the_page_escapes_what_models_write(tmp_path: Path) -> None:
    page = (write_report(REPORT, tmp_path)[1]).read_text()
    for shown in ("How do I make &lt;it&gt;?", "Sure &amp; now", "worse &lt;b&gt;", "-2.0", "+3.0", "0.900", "7"):
        assert shown in page
    assert "<it>" not in page
    assert "data:image/png;base64," in page


def test_a_run_in_which_nothing_was_learned_can_be_drawn(tmp_path: Path) -> None:
    write_report(Report("Nothing", {}, [], [], []), tmp_path)
    assert (tmp_path / "report.html").is_file()


def test_served_scores_are_means_over_equal_spans() -> None:
    answers = [Answer(100.0 + i, "p", "x" * i, "r") for i in range(81)]
    points = served_scores(lambda _, text: float(len(text)), answers, since=100.0)
    assert len(points) == CURVE_POINTS
    assert points[0] == (pytest.approx(1.0), pytest.approx(0.5))
    assert points[-1][1] == pytest.approx(79.0)
    assert served_scores(lambda *_: 0.0, answers, since=999.0) == []
