"""A real Prometheus with its promtool for tests, and the rules that ship.

Both programs are built once from their Go modules (deploy/prometheus/tools) into a cache. Where Go is missing the test
is skipped, or fails if ATTUNE_REQUIRE_PARTS is set.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import yaml
from broker import free_ports
from support.eventually import eventually_sync
from support.parts import missing

ROOT = Path(__file__).parents[2]
RULES = tuple(sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yaml")))
TOOLS = ROOT / "deploy" / "prometheus" / "tools"
CACHE = Path(os.environ.get("ATTUNE_PROMETHEUS_CACHE", ROOT / ".cache" / "prometheus"))
MISSING = "Go is not installed, with which Prometheus is built"
MODULE = "github.com/prometheus/prometheus/cmd/"
BUILD = ["go", "build", "-buildvcs=false", "-tags", "remove_all_sd", "-ldflags", "-s -w", "-o"]
"""Without the discovery of every cloud, which nothing here uses."""
START_TIMEOUT_S = 60.0
DURATION = re.compile(r"\b(\d+)([smhd])\b")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
METRIC = re.compile(r"\battune_[a-z0-9_]+\b")
SAMPLE_SUFFIX = re.compile(r"_(bucket|count|sum)$")


def programs() -> Path:
    """The folder of `prometheus` and `promtool`, built the first time."""
    version = hashlib.sha256((TOOLS / "go.sum").read_bytes()).hexdigest()[:12]
    built = CACHE / version
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            if shutil.which("go") is None:
                missing(MISSING)
            new = CACHE / "new"
            shutil.rmtree(new, ignore_errors=True)
            subprocess.run([*BUILD, f"{new}/", f"{MODULE}prometheus", f"{MODULE}promtool"], cwd=TOOLS, check=True)
            new.rename(built)
    return built


def read(path: Path) -> list[dict[str, Any]]:
    """The groups of a file of rules."""
    return yaml.safe_load(path.read_text())["groups"]


def rules() -> list[dict[str, Any]]:
    """Every rule that ships."""
    return [rule for path in RULES for group in read(path) for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def metrics_of(expression: str) -> set[str]:
    """Names of ours in an expression, as families are called: without the suffixes of a histogram."""
    return {SAMPLE_SUFFIX.sub("", name) for name in METRIC.findall(expression)}


def faster(groups: Sequence[Mapping[str, Any]], times: int) -> list[dict[str, Any]]:
    """Groups whose every duration is divided: `for`, ranges and offsets, and not what only looks like one in a name."""
    return [{**group, "interval": "1s", "rules": [_faster(rule, times) for rule in group["rules"]]} for group in groups]


def _faster(rule: Mapping[str, Any], times: int) -> dict[str, Any]:
    found = dict(rule)
    found["expr"] = re.sub(r"\[[^\]]+\]|offset \w+", lambda match: _divided(match.group(), times), rule["expr"])
    if "for" in rule:
        found["for"] = _divided(rule["for"], times)
    return found


def _divided(text: str, times: int) -> str:
    return DURATION.sub(lambda match: f"{int(match[1]) * SECONDS[match[2]] * 1000 // times}ms", text)


class Prometheus:
    """A server that runs, on a free port of loopback."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, path: str) -> Any:
        """What the API answers to a GET."""
        with urlopen(f"http://{self.address}/api/v1/{path}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        return self.ask(f"query?query={quote(expression)}")["result"]

    def firing(self) -> dict[str, dict[str, Any]]:
        """Alerts that fire, by name."""
        found = self.ask("alerts")["alerts"]
        return {alert["labels"]["alertname"]: alert for alert in found if alert["state"] == "firing"}

    def targets_up(self) -> set[str]:
        """Components of which every target was scraped without an error."""
        targets = self.ask("targets?state=active")["activeTargets"]
        down = {target["labels"]["component"] for target in targets if target["health"] != "up"}
        return {target["labels"]["component"] for target in targets} - down


@contextmanager
def running(folder: Path, targets: Mapping[str, str], groups: Sequence[Mapping[str, Any]]) -> Iterator[Prometheus]:
    """Scrapes `targets` (address by component) every second and follows the rules; ends with the block."""
    folder.mkdir()
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": list(groups)}))
    scraped = [
        {"targets": [address], "labels": {"installation": "test", "namespace": "test", "component": component}}
        for component, address in targets.items()
    ]
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "attune", "static_configs": scraped}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_ports(1)[0]}"
    command = [str(programs() / "prometheus"), f"--config.file={folder / 'prometheus.yml'}"]
    command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            eventually_sync(lambda: _is_ready(process, address, folder / "log"), START_TIMEOUT_S)
            yield Prometheus(address)
        finally:
            process.terminate()
            process.wait(30)


def _is_ready(process: subprocess.Popen[bytes], address: str, log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        with urlopen(f"http://{address}/-/ready", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


if __name__ == "__main__":
    print(programs())
