"""A real Triton server for tests marked `triton`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NoReturn

import pytest
from support.processes import free_port
from triton_server import Triton, TritonFailed, fetch

REQUIRED = "ATTUNE_REQUIRE_PARTS"


def missing(reason: object) -> NoReturn:
    """Skips the test for want of a part; fails it where every part must be there."""
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{REQUIRED} is set, and there is no Triton server: {reason}")
    pytest.skip(f"no Triton server: {reason}")


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """One server for the whole session, on an empty repository. A test that ends it starts it again."""
    try:
        fetch()
    except TritonFailed as error:
        missing(error)
    folder = tmp_path_factory.mktemp("triton")
    server = Triton(folder / "repository", free_port(), folder / "triton.log")
    server.start()
    yield server
    server.stop()
