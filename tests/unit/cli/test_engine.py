"""--engine: what vLLM needs of the services, and that its environment must be there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from attune.cli.engine import EngineChoice, engine_choice
from attune.domain.errors import ConfigurationInvalid
from attune.platform.config import load_settings
from attune.policy.config import PolicySettings
from attune.trainer.config import TrainerSettings

SETTINGS = {"policy": ["threads=1"], "reward": [], "trainer": ["seed=1"]}


def test_by_default_nothing_is_set() -> None:
    assert engine_choice("transformers", None) == EngineChoice()
    assert EngineChoice().with_settings(SETTINGS) == SETTINGS


def test_vllm_runs_from_its_environment_and_the_trainer_writes_for_its_gate(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    chosen = engine_choice("vllm", tmp_path)
    assert chosen.interpreters == {"policy": tmp_path / "bin" / "python"}
    settings = chosen.with_settings(SETTINGS)
    assert (settings["policy"][0], settings["reward"], settings["trainer"][0]) == ("threads=1", [], "seed=1")
    assert load_settings(PolicySettings, settings["policy"]).engine.name == "vllm"
    assert load_settings(TrainerSettings, settings["trainer"]).gate.sampler == "trainer"


def test_an_environment_that_is_not_there_is_said_with_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match=r"python deploy/vllm/installation\.py"):
        engine_choice("vllm", tmp_path)
