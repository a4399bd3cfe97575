"""What every test starts from."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest
from support.databases import new_engine, new_url  # noqa: F401  fixtures
from support.kafka import broker, kafka_settings, topic_prefix  # noqa: F401 - fixtures
from support.postgres import postgres  # noqa: F401
from support.s3 import s3, s3_server  # noqa: F401
from support.triton import triton  # noqa: F401
from support.vllm import vllm_python  # noqa: F401


@pytest.fixture(autouse=True)
def whole_float_range() -> Iterator[None]:
    """Stages and servers flush denormals to zero for this thread; the next test gets them back."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command sends the logs to its own standard error, which ends with its test; the next test logs as before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
    for handler in handlers:
        if handler not in root.handlers:
            root.addHandler(handler)
    root.setLevel(level)
