"""`attune sft`: the first revision goes live, later ones wait for a person."""

from __future__ import annotations

from pathlib import Path

from attune.domain.errors import CheckpointRefused
from unit.cli.stage_data import QUICK, answers, base, run, run_json


def test_publishing_moves_stable_only_the_first_time(tmp_path: Path) -> None:
    first, registry = base(tmp_path), str(tmp_path / "registry")
    command = ("sft", answers(tmp_path), "--base", first, "--steps", "3", *QUICK, "--registry", registry)
    one = run_json(*command, "--out", str(tmp_path / "one"), "--publish", "policies/support")
    two = run_json(*command, "--out", str(tmp_path / "two"), "--publish", "policies/support", "--seed", "1")
    assert (one["revision"], one["is_stable"]) == ("policies/support/revisions/1", True)
    assert (two["revision"], two["is_stable"]) == ("policies/support/revisions/2", False)
    shown = run(*command, "--out", str(tmp_path / "two"), "--publish", "policies/support", "--seed", "1")
    assert "attune promote policies/support/revisions/2" in shown.output  # the same files are not published twice


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    first = Path(base(tmp_path))
    (first / "tokenizer.json").unlink()
    (first / "tokenizer_config.json").unlink()
    result = run("sft", answers(tmp_path), "--base", str(first), "--out", str(tmp_path / "out"), *QUICK)
    assert isinstance(result.exception, CheckpointRefused)
    assert "tokenizer" in result.exception.message


def test_a_pickle_in_place_of_safetensors_is_refused(tmp_path: Path) -> None:
    first = Path(base(tmp_path))
    (first / "model.safetensors").rename(first / "pytorch_model.bin")
    result = run("sft", answers(tmp_path), "--base", str(first), "--out", str(tmp_path / "out"), *QUICK)
    assert isinstance(result.exception, CheckpointRefused)
    assert "pytorch_model.bin" in result.exception.message or "safetensors" in result.exception.message
