"""attune trainer: the service's command; its settings are listed, and a bad one is named."""

from __future__ import annotations

from attune.cli.trainer import trainer
from click.testing import CliRunner


def test_settings_are_listed(runner: CliRunner) -> None:
    done = runner.invoke(trainer, ["--settings"])
    assert done.exit_code == 0, done.output
    assert "ppo.kl_target (float, 0.0)" in done.output


def test_a_value_out_of_range_is_named(runner: CliRunner) -> None:
    done = runner.invoke(trainer, ["--set", "ppo.clip=3"])
    assert done.exit_code == 2
    assert "ppo.clip" in done.output
