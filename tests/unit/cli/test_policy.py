"""attune policy: the service's command; its settings are listed without a model being loaded."""

from __future__ import annotations

from attune.cli.policy import policy
from click.testing import CliRunner


def test_settings_are_listed(runner: CliRunner) -> None:
    done = runner.invoke(policy, ["--settings"])
    assert done.exit_code == 0, done.output
    assert "engine.running (int, 96)" in done.output


def test_a_bad_setting_is_named(runner: CliRunner) -> None:
    done = runner.invoke(policy, ["--set", "engine.runing=3"])
    assert done.exit_code == 2
    assert "did you mean engine.running" in done.output
