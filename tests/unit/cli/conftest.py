"""Commands against small real servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from click.testing import CliRunner
from unit.client.servers import SmallServer, running_server


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


@pytest.fixture
def server() -> Iterator[SmallServer]:
    with running_server() as small:
        small.set_serving(True)
        yield small
