"""Retentions that would let one person count twice are refused."""

from __future__ import annotations

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
