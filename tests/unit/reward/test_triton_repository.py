"""The model repository on disk: whole versions, a configuration, and no hand on what others wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
from attune.domain.errors import ConfigurationInvalid
from attune.reward.triton_repository import SCRIPT, TritonRepository


def repository(folder: Path) -> TritonRepository:
    return TritonRepository(folder / "triton", "support", batch_pairs=32, dtype="bfloat16", threads=2)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "model.safetensors").write_text("one")
    return folder


def test_a_version_is_the_script_beside_its_weights(tmp_path: Path, weights: Path) -> None:
    made = repository(tmp_path)
    made.add(7, weights)
    version = tmp_path / "triton" / "support" / "7"
    assert (version / "model.py").read_text() == SCRIPT.read_text()
    assert (version / "weights" / "model.safetensors").read_text() == "one"
    assert made.versions == (7,)
    assert [path.name for path in (tmp_path / "triton").iterdir()] == ["support"]


def test_a_version_can_be_replaced_and_taken_out(tmp_path: Path, weights: Path) -> None:
    made = repository(tmp_path)
    made.add(7, weights)
    (weights / "model.safetensors").write_text("two")
    made.add(7, weights)
    made.add(10, weights)
    assert (tmp_path / "triton" / "support" / "7" / "weights" / "model.safetensors").read_text() == "two"
    assert made.versions == (7, 10)
    made.remove(7)
    made.remove(8)
    assert made.versions == (10,)


def test_the_configuration_says_what_the_script_needs(tmp_path: Path) -> None:
    repository(tmp_path)
    config = (tmp_path / "triton" / "support" / "config.pbtxt").read_text()
    assert "max_batch_size: 32\n" in config
    assert 'key: "dtype" value: { string_value: "bfloat16" }' in config
    assert 'key: "threads" value: { string_value: "2" }' in config


def test_a_start_clears_what_a_killed_server_left(tmp_path: Path, weights: Path) -> None:
    repository(tmp_path).add(7, weights)
    assert repository(tmp_path).versions == ()


def test_what_somebody_else_wrote_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "triton" / "support"
    (other / "1").mkdir(parents=True)
    (other / "config.pbtxt").write_text('backend: "onnxruntime"')
    with pytest.raises(ConfigurationInvalid, match="not written by Attune"):
        repository(tmp_path)
    assert (other / "1").exists()
