"""A real Triton server for tests marked `triton`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.parts import missing
from support.processes import free_port
from triton_server import Triton, TritonFailed, fetch


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """One server for the whole session, on an empty repository. A test that ends it starts it again."""
    try:
        fetch()
    except TritonFailed as error:
        missing(f"no Triton server: {error}")
    folder = tmp_path_factory.mktemp("triton")
    server = Triton(folder / "repository", free_port(), folder / "triton.log")
    server.start()
    yield server
    server.stop()
