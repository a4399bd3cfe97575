"""The dashboards: the files are what the script makes, and each is one that Grafana and Prometheus can read."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from dashboards import DASHBOARDS, HERE, Dashboard, as_json
from support.prometheus import programs

by_name = pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)


def model(dashboard: Dashboard) -> dict[str, Any]:
    return json.loads((HERE / f"{dashboard.uid}.json").read_text())


def queries(dashboard: Dashboard) -> list[str]:
    return [target["expr"] for panel in model(dashboard)["panels"] for target in panel.get("targets", ())]


@by_name
def test_the_file_is_what_the_script_makes(dashboard: Dashboard) -> None:
    assert (HERE / f"{dashboard.uid}.json").read_text() == as_json(dashboard), "run deploy/grafana/dashboards.py"


def test_no_file_is_left_over() -> None:
    assert {path.stem for path in HERE.glob("*.json")} == {dashboard.uid for dashboard in DASHBOARDS}


@by_name
def test_panels_have_numbers_of_their_own_and_do_not_overlap(dashboard: Dashboard) -> None:
    panels = model(dashboard)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken
        taken |= cells


@by_name
def test_every_query_is_for_the_chosen_installations_and_source(dashboard: Dashboard) -> None:
    variables = {variable["name"] for variable in model(dashboard)["templating"]["list"]}
    assert variables == {"datasource", "namespace", "installation"}
    for panel in model(dashboard)["panels"]:
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == panel["datasource"]["uid"] == "${datasource}"
            assert "@" not in target["expr"]
            assert 'namespace=~"$namespace",installation=~"$installation"' in target["expr"]


@by_name
def test_a_panel_tells_its_queries_apart(dashboard: Dashboard) -> None:
    for panel in model(dashboard)["panels"]:
        targets = panel.get("targets", ())
        assert (panel["type"] == "row") == (not targets)
        for name in ("refId", "legendFormat", "expr"):
            assert len({target[name] for target in targets}) == len(targets)


@pytest.mark.prometheus
@by_name
def test_prometheus_understands_every_query(dashboard: Dashboard, tmp_path: Path) -> None:
    read = [query.replace("$__rate_interval", "5m").replace("$", "") for query in queries(dashboard)]
    rules = [{"record": f"query:{i}", "expr": query} for i, query in enumerate(read)]
    written = tmp_path / "queries.yaml"
    written.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run([programs() / "promtool", "check", "rules", written], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
