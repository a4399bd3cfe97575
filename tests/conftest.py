"""What every test starts from."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from support.databases import new_engine, new_url  # noqa: F401  fixtures
from support.kafka import broker, kafka_settings, topic_prefix  # noqa: F401 - fixtures
from support.postgres import postgres  # noqa: F401
from support.vllm import vllm_python  # noqa: F401


@pytest.fixture(autouse=True)
def whole_float_range() -> Iterator[None]:
    """Stages and servers flush denormals to zero for this thread; the next test gets them back."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)
