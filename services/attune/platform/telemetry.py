"""Logs and metrics of a process. One event a line, for people on a terminal, as JSON elsewhere; never prompt text.

Metrics are Prometheus's, on a registry of the process, all named attune_…; each service declares its own in its
metrics.py, and `describe` lists them so that the table in the docs can be held against them.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, start_http_server

from attune.domain.errors import AddressInUse

PREFIX = "attune_"


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up_logging(level: str = "info") -> None:
    """Sends logs to standard error, in the form that suits it."""
    handler = logging.StreamHandler(sys.stderr)
    if sys.stderr.isatty():
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S"))
    else:
        handler.setFormatter(_JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def new_metrics() -> CollectorRegistry:
    """A registry with the process's own figures (memory, CPU, open files)."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


@contextmanager
def serve_metrics(registry: CollectorRegistry, host: str, port: int) -> Iterator[int]:
    """Serves /metrics over HTTP; yields the port, a free one for 0. AddressInUse if it cannot listen there."""
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise AddressInUse(f"cannot serve metrics on {host}:{port}: {error.strerror or error}") from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(frozen=True)
class MetricDescription:
    """A metric as the docs list it."""

    name: str
    type: str
    help: str


def describe(registry: CollectorRegistry) -> list[MetricDescription]:
    """Our metrics on the registry, by name, as Prometheus shows them."""
    found = []
    for family in registry.collect():
        if family.name.startswith(PREFIX):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found.append(MetricDescription(name, family.type, family.documentation))
    return sorted(found, key=lambda m: m.name)
