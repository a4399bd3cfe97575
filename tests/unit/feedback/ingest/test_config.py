"""The settings of ingest."""

from __future__ import annotations

import pytest
from attune.domain.errors import ConfigurationInvalid
from attune.feedback.ingest.config import IngestSettings
from attune.platform.config import load_settings


def test_the_defaults_hold() -> None:
    settings = load_settings(IngestSettings)
    assert settings.app.port == 7003
    assert settings.queue_events > 0


@pytest.mark.parametrize("flag", ["queue_events=0", "queue_mib=0", "log_timeout_s=0", "max_timeout_s=-1"])
def test_what_cannot_work_is_refused(flag: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=flag.partition("=")[0]):
        load_settings(IngestSettings, [flag])
