"""What a test does for want of a part that it is about: it is skipped, or fails where every part must be there."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

REQUIRED = "ATTUNE_REQUIRE_PARTS"


def missing(reason: str) -> NoReturn:
    """Skips the test, in plain words; fails it if REQUIRED is set."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"{REQUIRED} is set: {reason}")
    pytest.skip(reason)
