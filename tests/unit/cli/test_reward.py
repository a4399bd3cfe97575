"""attune reward: the service's command; its settings are listed without a model being loaded."""

from __future__ import annotations

from attune.cli.reward import reward
from click.testing import CliRunner


def test_settings_are_listed(runner: CliRunner) -> None:
    done = runner.invoke(reward, ["--settings"])
    assert done.exit_code == 0, done.output
    assert "batch.queue_pairs (int, 8192)" in done.output


def test_a_bad_setting_is_named(runner: CliRunner) -> None:
    done = runner.invoke(reward, ["--set", "batch.pears=3"])
    assert done.exit_code == 2
    assert "did you mean batch.pairs" in done.output
