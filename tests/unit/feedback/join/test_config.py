"""Retentions that would let one person count twice are refused, and passwords where others could read them."""

from __future__ import annotations

from pathlib import Path

import pytest
from attune.domain.errors import ConfigurationInvalid
from attune.feedback.join.config import DAY_S, JoinSettings
from attune.platform.config import load_settings


def test_the_defaults_hold() -> None:
    limits = load_settings(JoinSettings).limits()
    assert limits.pending_ttl_us == DAY_S * 1_000_000


def test_events_are_known_for_seven_days_at_least() -> None:
    with pytest.raises(ConfigurationInvalid, match="feedback_retention_s"):
        load_settings(JoinSettings, ["feedback_retention_s=86400", "generation_retention_s=10", "pending_ttl_s=10"])


def test_opinions_outlive_the_generations_they_are_about() -> None:
    with pytest.raises(ConfigurationInvalid, match="must cover"):
        load_settings(JoinSettings, [f"generation_retention_s={20 * DAY_S}"])


def test_the_control_port_stays_on_loopback() -> None:
    with pytest.raises(ConfigurationInvalid, match="loopback"):
        load_settings(JoinSettings, ["control.host=0.0.0.0"])


@pytest.mark.parametrize("key", ["database", "erasures_from"])
def test_a_password_does_not_stand_in_the_url(key: str) -> None:
    with pytest.raises(ConfigurationInvalid, match="ATTUNE_JOIN_DATABASE_PASSWORD") as caught:
        load_settings(JoinSettings, [f"{key}=postgresql+psycopg://attune:tiger@db/attune"])
    assert "tiger" not in caught.value.message


def test_the_password_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    database = "database=postgresql+psycopg://attune@db:5432/attune"
    environment = {"ATTUNE_JOIN_DATABASE_PASSWORD": "tiger"}
    settings = load_settings(JoinSettings, [database], environ=environment)
    assert settings.password() == "tiger"
    assert "tiger" not in repr(settings)
    file = tmp_path / "password"
    file.write_text("lion\n")
    assert load_settings(JoinSettings, [database, f"database_password_file={file}"]).password() == "lion"
    with pytest.raises(ConfigurationInvalid, match="database_password_file cannot be read"):
        load_settings(JoinSettings, [f"database_password_file={tmp_path}/none"]).password()


def test_a_password_is_no_flag() -> None:
    with pytest.raises(ConfigurationInvalid, match="is a secret"):
        load_settings(JoinSettings, ["database_password=tiger"])
