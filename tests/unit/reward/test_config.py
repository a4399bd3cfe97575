"""Settings of the reward server: they run on a laptop as they are, and what they say reaches the scorer."""

from __future__ import annotations

import pytest
from attune.domain.errors import ConfigurationInvalid
from attune.platform.config import load_settings
from attune.reward.config import RewardSettings
from attune.reward.scorer import BatchLimits


def test_the_defaults_hold() -> None:
    assert RewardSettings().batch.limits() == BatchLimits()


def test_what_is_said_reaches_the_scorer() -> None:
    flags = ["batch.pairs=2", "batch.tokens=3", "batch.round_pairs=4", "batch.queue_pairs=5", "batch.padding=6"]
    assert load_settings(RewardSettings, flags).batch.limits() == BatchLimits(2, 3, 4, 5, 6)


@pytest.mark.parametrize(
    "flag", ["control.host=0.0.0.0", "dtype=int8", "batch.pairs=0", "metrics_port=-1", "engine=onnx"]
)
def test_what_cannot_hold_is_refused_by_its_key(flag: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=flag.partition("=")[0]):
        load_settings(RewardSettings, [flag])
