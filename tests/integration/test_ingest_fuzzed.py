"""A small run of the fuzz of ingest; `make fuzz-ingest` is the large one."""

from __future__ import annotations

import pytest
from fuzz.ingest import FAULTS, fuzz


@pytest.mark.slow
async def test_malformed_requests_are_refused_with_the_right_status(capsys: pytest.CaptureFixture[str]) -> None:
    figures = await fuzz(3000, 1)
    assert figures["requests"] == 3000
    assert {fault: figures[fault] for fault in FAULTS} == dict.fromkeys(FAULTS, 0), capsys.readouterr().out
