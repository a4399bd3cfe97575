"""A small server for each test,."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from unit.client.servers import SmallServer, running_server


@pytest.fixture
def server() -> Iterator[SmallServer]:
    with running_server() as small:
        yield small
