"""Logs of one line an event, metrics over HTTP, and the list that the docs are held against."""

from __future__ import annotations

import io
import json
import logging
import urllib.request
from collections.abc import Iterator
from contextlib import redirect_stderr

import pytest
from attune.domain.errors import AddressInUse
from attune.platform.telemetry import describe, new_metrics, serve_metrics, set_up_logging
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def handlers_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    root.handlers[:], root.level = before


def test_a_log_line_is_json_off_a_terminal() -> None:
    log = logging.getLogger("attune.test")
    with redirect_stderr(io.StringIO()) as stderr:
        set_up_logging("info")
    log.debug("not this")
    log.info("a %s", "line")
    try:
        raise ValueError("inner")
    except ValueError:
        log.exception("outer")
    lines = [json.loads(line) for line in stderr.getvalue().splitlines()]
    assert [(line["level"], line["message"]) for line in lines] == [("info", "a line"), ("error", "outer")]
    assert "ValueError: inner" in lines[1]["exception"]


def test_a_terminal_gets_plain_lines() -> None:
    with redirect_stderr(Terminal()) as stderr:
        set_up_logging("warning")
    logging.getLogger("attune.test").warning("careful")
    assert stderr.getvalue().endswith("WARNING attune.test: careful\n")


def test_metrics_are_served_and_the_port_is_given_back() -> None:
    measured = new_metrics()
    Counter("attune_things", "Things", registry=measured).inc(3)
    with serve_metrics(measured, "127.0.0.1", 0) as port:
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
        assert "attune_things_total 3.0" in page
        assert "process_cpu_seconds_total" in page
    with (
        serve_metrics(measured, "127.0.0.1", port),
        pytest.raises(AddressInUse, match=f"metrics on 127.0.0.1:{port}"),
        serve_metrics(measured, "127.0.0.1", port),
    ):
        pass


def test_describe_lists_ours_as_prometheus_names_them() -> None:
    measured = CollectorRegistry()
    Counter("attune_b", "Bs", registry=measured)
    Gauge("attune_a", "An a", registry=measured)
    Histogram("attune_c_seconds", "A c", registry=measured)
    Gauge("other", "Not ours", registry=measured)
    assert [(m.name, m.type, m.help) for m in describe(measured)] == [
        ("attune_a", "gauge", "An a"), ("attune_b_total", "counter", "Bs"), ("attune_c_seconds", "histogram", "A c"),
    ]  # fmt: skip
