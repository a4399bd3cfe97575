"""A real policy process for benchmarks: where it listens, what its metrics say, and how much memory it holds."""

from __future__ import annotations

import resource
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from attune.client import NO_RETRY
from attune.client.calls import Connection
from policies import MODEL
from processes import START_S, free_port, process
from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class PolicyServer:
    """Its process id, the addresses of its app and control ports, and the port of its metrics page."""

    pid: int
    address: str
    control_address: str
    metrics_port: int

    def figures(self) -> dict[str, float]:
        """Every sample of the metrics page by its name, those of one name added up."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as page:
            families = list(text_string_to_metric_families(page.read().decode()))
        found: dict[str, float] = {}
        for sample in (sample for family in families for sample in family.samples):
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
        return found

    def resident_mib(self) -> float:
        """Memory that the process holds now (Linux)."""
        statm = Path(f"/proc/{self.pid}/statm").read_text()
        return int(statm.split()[1]) * resource.getpagesize() / 2**20


@contextmanager
def policy_server(folder: Path, settings: Sequence[str]) -> Iterator[PolicyServer]:
    """`attune policy` on the registry in `folder`, once it serves."""
    app, control, metrics = (free_port() for _ in range(3))
    own = [f"registry={folder / 'registry'}", f"events_folder={folder / 'events'}", f"cache_folder={folder / 'cache'}"]
    own += [f"app.port={app}", f"control.port={control}", f"metrics_port={metrics}", "log_level=warning"]
    own += [f"policy={MODEL.model}"]
    flags = [part for setting in [*own, *settings] for part in ("--set", setting)]
    address = f"127.0.0.1:{app}"
    with process([sys.executable, "-m", "attune.cli.main", "policy", *flags], address) as pid:
        with Connection(address, NO_RETRY) as connection:
            connection.wait_until_serving(START_S)
        yield PolicyServer(pid, address, f"127.0.0.1:{control}", metrics)
