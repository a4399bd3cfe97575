"""Every metric that a rule, a dashboard or a runbook names is exposed: all services are started and scraped."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from urllib.request import urlopen

import pytest
from attune.cli.service import KNOWN_SERVICES
from attune.cli.supervisor import Endpoints, settings_of
from attune.platform.config import load_settings
from dashboards import DASHBOARDS
from panels import chosen
from support.eventually import eventually
from support.prometheus import ROOT, metrics_of, rules

SETTINGS = {
    "policy": ("attune.policy", "PolicySettings"),
    "reward": ("attune.reward", "RewardSettings"),
    "ingest": ("attune.feedback.ingest", "IngestSettings"),
    "join": ("attune.feedback.join", "JoinSettings"),
    "trainer": ("attune.trainer", "TrainerSettings"),
}
FAMILY = re.compile(r"^# TYPE (attune_\w+) ", re.MULTILINE)
RECORDED = {rule["record"] for rule in rules() if "record" in rule}
RECORD = re.compile(r"\battune:[a-z0-9_:]+")
PROMQL = re.compile(r"^```promql\n(.+?)^```", re.MULTILINE | re.DOTALL)


@asynccontextmanager
async def all_services(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Endpoints]:
    """What `attune up` runs, with its settings, in this process; they wait for a first revision."""
    endpoints, stop = Endpoints.free(), asyncio.Event()
    monkeypatch.setattr("attune.feedback.join.main.collect_rarely", lambda: None)  # it is for a process of its own
    running = []
    for service, flags in settings_of(folder, endpoints, cores=1).items():
        package, name = SETTINGS[service]
        settings = getattr(import_module(f"{package}.config"), name)
        module = import_module(f"{package}.main")
        monkeypatch.setattr(f"{package}.main.set_up_logging", lambda level: None)
        own = load_settings(settings, flags, None, dict(os.environ), KNOWN_SERVICES)
        running.append(asyncio.create_task(module.main(own, stop)))
    try:
        yield endpoints
    finally:
        stop.set()
        await asyncio.gather(*running)


def scraped(endpoints: Endpoints) -> set[str]:
    """Names of the families that all metrics ports show."""
    found: set[str] = set()
    for service in endpoints.ports:
        with urlopen(f"http://{endpoints.address(service, 'metrics')}/metrics", timeout=5) as page:
            found |= set(FAMILY.findall(page.read().decode()))
    return found


def is_up(endpoints: Endpoints) -> bool:
    try:
        return bool(scraped(endpoints))
    except OSError:
        return False


def expressions() -> dict[str, str]:
    """Every expression that ships, by where it stands."""
    found = {f"rule {rule.get('alert') or rule['record']}": rule["expr"] for rule in rules()}
    for dashboard in DASHBOARDS:
        for row in dashboard.rows:
            for panel in row.panels:
                found[f"{dashboard.title}, {panel.title}"] = "\n".join(map(chosen, panel.queries.values()))
    for page in (ROOT / "deploy" / "runbooks").glob("*.md"):
        found[f"runbook {page.stem}"] = "\n".join(PROMQL.findall(page.read_text()))
    return found


async def test_every_metric_is_exposed_by_a_running_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with all_services(tmp_path, monkeypatch) as endpoints:
        await eventually(lambda: is_up(endpoints), 60)
        families = await asyncio.to_thread(scraped, endpoints)
    unknown = {where: missing for where, text in expressions().items() if (missing := metrics_of(text) - families)}
    assert unknown == {}
    assert len(families) > 70


def test_every_recorded_name_is_recorded() -> None:
    used = {where: set(RECORD.findall(text)) - RECORDED for where, text in expressions().items()}
    assert {where: missing for where, missing in used.items() if missing} == {}


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("rate(attune_a_seconds_bucket[5m]) / attune_b_total", {"attune_a_seconds", "attune_b_total"}),
        ("attune:join:ratio_rate1h < 1", set()),
    ],
)
def test_names_are_found_in_an_expression(expression: str, names: set[str]) -> None:
    assert metrics_of(expression) == names
