"""`attune reward-model`: it becomes stable only if it is better than chance."""

from __future__ import annotations

from pathlib import Path

from unit.cli.stage_data import QUICK, answers, base, rankings, run, run_json, write


def test_a_learnable_ranking_becomes_stable(tmp_path: Path) -> None:
    registry = str(tmp_path / "registry")
    command = ("reward-model", rankings(tmp_path), "--base", base(tmp_path), "--epochs", "3", "--lr", "0.005", *QUICK)
    anchors = ("--anchors", answers(tmp_path))
    result = run_json(
        *command, *anchors, "--out", str(tmp_path / "r"), "--publish", "rewards/a", "--registry", registry
    )
    assert (result["revision"], result["is_stable"]) == ("rewards/a/revisions/1", True)
    assert result["metrics"]["accuracy"] > 0.9
    assert (tmp_path / "r" / "anchors.json").is_file()


def test_a_ranking_without_signal_does_not(tmp_path: Path) -> None:
    rows = [{"prompt": f"order {i}?", "ranking": [f"a {i * 7 % 11}", f"a {i * 5 % 13 + 20}"][:: 1 if i % 3 else -1]}
            for i in range(60)]  # fmt: skip
    data, registry = write(tmp_path / "noise.jsonl", rows), str(tmp_path / "registry")
    command = ("reward-model", data, "--base", base(tmp_path), "--steps", "2", *QUICK, "--registry", registry)
    shown = run(*command, "--out", str(tmp_path / "r"), "--publish", "rewards/a")
    assert shown.exit_code == 0
    assert "published rewards/a/revisions/1; not stable: accuracy" in shown.output
