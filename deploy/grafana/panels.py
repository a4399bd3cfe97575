"""Rows of panels, and how they become the JSON that Grafana reads (schema version 39).

In an expression `@` stands for the labels of the chosen installations. A panel shows what people decide on: rates and
quantiles over a window, never averages over the life of a process.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CHOSEN = 'namespace=~"$namespace",installation=~"$installation"'
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, ROW_HEIGHT, STAT_HEIGHT = 24, 8, 4
RATE = "[$__rate_interval]"
PROMOTIONS = "changes(attune_training_stable_revision_number{@,kind='policy'}[1m]) > 0"
STAT_OPTIONS = {
    "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    "colorMode": "value",
    "graphMode": "area",
    "justifyMode": "auto",
    "textMode": "auto",
    "orientation": "auto",
}
SERIES_OPTIONS = {
    "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
    "tooltip": {"mode": "multi", "sort": "desc"},
}


@dataclass(frozen=True)
class Panel:
    """`queries` are expressions by legend. A `threshold` is a red line; a stat is one large figure."""

    title: str
    queries: Mapping[str, str]
    unit: str = "short"
    about: str = ""
    threshold: float | None = None
    is_stat: bool = False


@dataclass(frozen=True)
class Row:
    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Dashboard:
    uid: str
    title: str
    about: str
    rows: Sequence[Row]


def stat(title: str, query: str, unit: str = "short", about: str = "") -> Panel:
    return Panel(title, {"": query}, unit, about, is_stat=True)


def quantiles(title: str, histogram: str, labels: str = "", about: str = "", unit: str = "s") -> Panel:
    """Median and tail of a histogram."""
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return Panel(title, {name: quantile(q, histogram, labels=labels) for name, q in shares.items()}, unit, about)


def by(title: str, label: str, counter: str, labels: str = "", unit: str = "cps", about: str = "") -> Panel:
    """A counter's rate by its labels, `label` being one or several with commas between."""
    legend = " ".join(f"{{{{{name}}}}}" for name in label.split(", "))
    return Panel(title, {legend: f"sum by ({label}) (rate({_of(counter, labels)}{RATE}))"}, unit, about)


def cores(component: str) -> Panel:
    query = f"rate(process_cpu_seconds_total{{@,component='{component}'}}{RATE})"
    return Panel("CPU", {"{{instance}}": query}, "short", "Cores that each process uses.")


def memory(component: str) -> Panel:
    query = f"process_resident_memory_bytes{{@,component='{component}'}}"
    return Panel("Memory", {"{{instance}}": query}, "bytes", "Resident memory of each process.")


def rate(counter: str, labels: str = "") -> str:
    """A counter's increase a second, all series together."""
    return f"sum(rate({_of(counter, labels)}{RATE}))"


def increase(counter: str, window: str, by: str = "", labels: str = "") -> str:
    """What a counter gained within a window, by a label if one is named."""
    return f"sum{f' by ({by}) ' if by else ''}(increase({_of(counter, labels)}[{window}]))"


def quantile(share: float, histogram: str, window: str = RATE, labels: str = "", by: str = "") -> str:
    """A quantile of a histogram over a window, by a label if one is named."""
    over = f"rate({_of(f'{histogram}_bucket', labels)}{window})"
    return f"histogram_quantile({share}, sum by ({f'{by}, ' if by else ''}le) ({over}))"


def greatest(gauge: str, by: str = "", labels: str = "") -> str:
    return f"max{f' by ({by}) ' if by else ''}({_of(gauge, labels)})"


def total(gauge: str, by: str = "", labels: str = "") -> str:
    return f"sum{f' by ({by}) ' if by else ''}({_of(gauge, labels)})"


def _of(metric: str, labels: str) -> str:
    return f"{metric}{{@{',' + labels if labels else ''}}}"


def as_json(dashboard: Dashboard) -> str:
    """The file of a dashboard."""
    return json.dumps(_model(dashboard), indent=1, ensure_ascii=False) + "\n"


def _model(dashboard: Dashboard) -> dict[str, Any]:
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.about,
        "tags": ["attune"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "links": [{"type": "dashboards", "tags": ["attune"], "title": "Attune", "asDropdown": True,
                   "keepTime": True, "includeVars": True, "icon": "external link", "targetBlank": False}],
        "annotations": {"list": [_promotions()]},
        "templating": {"list": [_source(), _variable("namespace"), _variable("installation")]},
        "panels": list(_placed(dashboard.rows)),
    }  # fmt: skip


def _placed(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Row after row from the top; the panels of one share the width."""
    y, number = 0, 1
    for row in rows:
        place = {"h": 1, "w": WIDTH, "x": 0, "y": y}
        yield {"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []}
        y, number = y + 1, number + 1
        width = WIDTH // len(row.panels)
        height = STAT_HEIGHT if row.panels[0].is_stat else ROW_HEIGHT
        for i, panel in enumerate(row.panels):
            yield {"id": number, "gridPos": {"h": height, "w": width, "x": i * width, "y": y}} | _panel(panel)
            number += 1
        y += height


def _panel(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.threshold is not None:
        steps.append({"color": "red", "value": panel.threshold})
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "color": {"mode": "thresholds" if panel.is_stat else "palette-classic"},
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if not panel.is_stat:
        line = "off" if panel.threshold is None else "line"
        defaults["custom"] = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 8, "showPoints": "auto",
                              "spanNulls": False, "thresholdsStyle": {"mode": line}}  # fmt: skip
    return {
        "type": "stat" if panel.is_stat else "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + i),
                "datasource": SOURCE,
                "expr": chosen(query),
                "legendFormat": legend or "__auto",
            }
            for i, (legend, query) in enumerate(panel.queries.items())
        ],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": STAT_OPTIONS if panel.is_stat else SERIES_OPTIONS,
    }


def chosen(query: str) -> str:
    """The expression for the installations that were chosen."""
    return query.replace("'", '"').replace("@", CHOSEN)


def _promotions() -> dict[str, Any]:
    return {"name": "Promotions", "enable": True, "iconColor": "blue", "datasource": SOURCE, "expr": chosen(PROMOTIONS),
            "titleFormat": "a policy revision became stable", "step": "30s"}  # fmt: skip


def _source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1,
            "hide": 0, "includeAll": False, "multi": False, "options": [], "current": {}}  # fmt: skip


def _variable(label: str) -> dict[str, Any]:
    query = f"label_values(attune_rpc_started_total, {label})"
    return {"name": label, "label": label.capitalize(), "type": "query", "datasource": SOURCE, "definition": query,
            "query": {"query": query, "refId": label}, "refresh": 2, "sort": 1, "hide": 0, "includeAll": True,
            "multi": True, "allValue": ".*", "options": [],
            "current": {"text": ["All"], "value": ["$__all"]}}  # fmt: skip
