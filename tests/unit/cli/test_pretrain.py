"""`attune pretrain`, with models of one layer."""

from __future__ import annotations

from pathlib import Path

import pytest
from attune.domain.errors import InvalidInput
from unit.cli.stage_data import QUICK, SMALL, base, run, run_json, texts, write


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2"])
def test_each_family_goes_through_all_it_needs(tmp_path: Path, family: str) -> None:
    first = base(tmp_path, family)
    more = run_json(
        "pretrain", texts(tmp_path), "--base", first, "--out", str(tmp_path / "more"), "--steps", "2", *QUICK
    )
    assert more["steps"] == 2
    assert (tmp_path / "more" / "model.safetensors").is_file()


def test_the_same_command_again_finds_it_done(tmp_path: Path) -> None:
    command = ("pretrain", texts(tmp_path), "--out", str(tmp_path / "base"), "--steps", "3", *SMALL, *QUICK)
    first, again = run_json(*command), run_json(*command)
    assert again == first


def test_another_run_into_the_same_folder_is_refused(tmp_path: Path) -> None:
    base(tmp_path)
    result = run("pretrain", texts(tmp_path), "--out", str(tmp_path / "base"), "--steps", "4", *SMALL, *QUICK)
    assert isinstance(result.exception, InvalidInput)
    assert "already holds something else" in result.exception.message


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    data = write(tmp_path / "bad.jsonl", [{"text": "fine"}, {"txt": "misspelt"}])
    result = run("pretrain", data, "--out", str(tmp_path / "base"), *SMALL, *QUICK)
    assert isinstance(result.exception, InvalidInput)
    assert "bad.jsonl:2" in result.exception.message


def test_publishing_under_the_wrong_kind_is_refused_before_training(tmp_path: Path) -> None:
    result = run("pretrain", texts(tmp_path), "--out", str(tmp_path / "base"), "--publish", "rewards/support", *SMALL)
    assert isinstance(result.exception, InvalidInput)
    assert not (tmp_path / "base").exists()
