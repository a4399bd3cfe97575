"""attune up: settings reach their service, and what is none is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from attune.cli.up import up, with_flags
from attune.domain.errors import ConfigurationInvalid, EventLogUnavailable
from click.testing import CliRunner

SETTINGS = {"policy": ["threads=1"], "trainer": []}


def test_a_flag_comes_behind_the_settings_of_its_service() -> None:
    found = with_flags(SETTINGS, ("policy.threads=2", "trainer.ppo.kl_target=3"))
    assert found == {"policy": ["threads=1", "threads=2"], "trainer": ["ppo.kl_target=3"]}
    assert SETTINGS == {"policy": ["threads=1"], "trainer": []}


@pytest.mark.parametrize("flag", ["threads=2", "baker.threads=2", "policy.threads", "policy"])
def test_what_names_no_service_is_refused(flag: str) -> None:
    with pytest.raises(ConfigurationInvalid, match="services are policy, trainer"):
        with_flags(SETTINGS, (flag,))


def test_a_cluster_that_does_not_answer_starts_nothing(runner: CliRunner, tmp_path: Path) -> None:
    config = tmp_path / "cluster.toml"
    config.write_text('[kafka]\nbootstrap = "127.0.0.1:1"\nrequest_timeout_s = 0.1\n')
    result = runner.invoke(up, ["--folder", str(tmp_path / "data"), "--kafka", str(config), "--free-ports"])
    assert isinstance(result.exception, EventLogUnavailable)
    assert not (tmp_path / "data" / "logs").exists()


def test_a_bad_flag_starts_nothing(runner: CliRunner, tmp_path: Path) -> None:
    result = runner.invoke(up, ["--folder", str(tmp_path / "data"), "--set", "baker.x=1"])
    assert isinstance(result.exception, ConfigurationInvalid)
    assert not (tmp_path / "data" / "logs").exists()
