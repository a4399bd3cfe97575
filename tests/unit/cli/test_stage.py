"""What the stage commands share: settings given and defaulted, publishing, and progress off a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from attune.cli.stage import SETTINGS, Bar, model_to_publish, publish, stage_settings
from attune.domain.errors import ConfigurationInvalid, InvalidInput
from attune.domain.revisions import ModelName
from attune.platform.registry.registry import Registry
from attune.trainer.gates import GateVerdict
from attune.trainer.stages.training import StageProgress, StageResult

MODEL = ModelName("rewards", "support")


def test_given_options_win_over_defaults() -> None:
    options = dict.fromkeys(SETTINGS) | {"lr": 0.5, "device": "cpu"}
    settings = stage_settings(options, lr=1e-3, batch_size=7)
    assert (settings.lr, settings.batch_size, settings.device) == (0.5, 7, "cpu")


def test_a_device_that_is_not_there_is_refused_before_training() -> None:
    with pytest.raises(ConfigurationInvalid, match="abacus"):
        stage_settings(dict.fromkeys(SETTINGS) | {"device": "abacus"})


@pytest.mark.parametrize("name", ["support", "policies/support", "rewards/"])
def test_a_name_of_another_kind_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        model_to_publish(name, "rewards")


def result(folder: Path) -> StageResult:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    return StageResult(folder, 3, 0.5, None, 10, 0)


@pytest.mark.parametrize(
    ("verdict", "is_stable"), [(None, True), (GateVerdict(True), True), (GateVerdict(False), False)]
)
def test_stable_moves_by_the_verdict(tmp_path: Path, verdict: GateVerdict | None, is_stable: bool) -> None:
    registry = Registry(tmp_path / "registry")
    name, moved = publish(registry, MODEL, result(tmp_path / "model"), verdict)
    assert (name.number, moved) == (1, is_stable)
    assert (registry.alias(MODEL, "stable") is not None) is is_stable
    assert registry.manifest(name).metrics["loss"] == 0.5


def test_the_same_files_are_published_once_and_depose_nobody(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    made = result(tmp_path / "model")
    assert publish(registry, MODEL, made) == publish(registry, MODEL, made) == (MODEL.revision(1), True)
    assert registry.newest_epoch(MODEL) == 1
    (tmp_path / "model" / "config.json").write_text('{"other": 1}')
    assert publish(registry, MODEL, made) == (MODEL.revision(2), False)


def test_a_publication_killed_before_it_went_live_is_finished(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    made = result(tmp_path / "model")
    registry.publish(MODEL.revision(1), made.folder, epoch=registry.take_epoch([MODEL], "killed"))
    assert publish(registry, MODEL, made) == (MODEL.revision(1), True)
    assert registry.alias(MODEL, "stable").number == 1


def test_progress_is_lines_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("SFT") as on_progress:
        for step in range(1, 4):
            on_progress(StageProgress(step, 3, 1.0 / step, 0.25, 1234.5))
    assert "SFT 3/3: loss 0.333, held out 0.250, 1,234 tokens/s" in capsys.readouterr().err
