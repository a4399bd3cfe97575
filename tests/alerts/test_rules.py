"""The rules: valid, documented, and each alert fires when it should and not when it should not."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from alerts.cases import CASES, Case, Course
from support.prometheus import ROOT, RULES, alerts, faster, programs, read, rules

LABELS = {"namespace": "shop", "installation": "attune"}


def series(course: Course) -> list[dict[str, str]]:
    """A course as promtool takes it, every series with the labels of one installation."""
    own = ",".join(f'{name}="{value}"' for name, value in LABELS.items())
    found = []
    for name, values in course.items():
        metric, _, labels = name.partition("{")
        found.append({"series": f"{metric}{{{own}{',' + labels if labels else '}'}", "values": values})
    return found


def promtool_tests(case: Case) -> list[dict[str, Any]]:
    """Two tests of promtool: the alert fires, and it does not."""
    asked = f'group(ALERTS{{alertname="{case.alert}",alertstate="firing"}})'
    return [
        {
            "name": f"{case.alert} {'fires' if fires else 'is quiet'}",
            "interval": "1m",
            "input_series": series(case.fires if fires else case.quiet),
            "promql_expr_test": [
                {"expr": asked, "eval_time": case.at, "exp_samples": [{"labels": "{}", "value": 1}] if fires else []}
            ],
        }
        for fires in (True, False)
    ]


@pytest.mark.prometheus
def test_every_alert_fires_and_does_not(tmp_path: Path) -> None:
    tests = [test for case in CASES for test in promtool_tests(case)]
    written = tmp_path / "tests.yaml"
    written.write_text(yaml.safe_dump({"rule_files": [str(path) for path in RULES], "tests": tests}))
    done = subprocess.run([programs() / "promtool", "test", "rules", written], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.prometheus
def test_promtool_finds_no_fault() -> None:
    command = [programs() / "promtool", "check", "rules", "--lint=all", "--lint-fatal", *RULES]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.prometheus
def test_the_shipped_configuration_is_valid() -> None:
    command = [programs() / "promtool", "check", "config", ROOT / "deploy" / "prometheus" / "prometheus.yml"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case() -> None:
    """And one for each component of those that have several rules."""
    of_component = Counter(rule["alert"] for rule in alerts() if "component" in rule["labels"])
    wanted = {rule["alert"]: of_component[rule["alert"]] or 1 for rule in alerts()}
    assert Counter(case.alert for case in CASES) == wanted


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: f"{rule['alert']}-{'-'.join(rule['labels'].values())}")
def test_an_alert_says_how_bad_it_is_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"deploy/runbooks/{rule['alert']}.md"


def test_no_two_rules_record_under_one_name() -> None:
    names = [rule["record"] for rule in rules() if "record" in rule]
    assert len(names) == len(set(names))


def test_faster_rules_differ_only_in_their_durations() -> None:
    (group,) = faster([{"name": "g", "rules": [{"expr": "a:rate5m[5m] offset 2h > 0.5 * b", "for": "10m"}]}], 60)
    assert group["rules"] == [{"expr": "a:rate5m[5000ms] offset 120000ms > 0.5 * b", "for": "10000ms"}]
    assert len(faster(read(RULES[0]), 60)) == len(read(RULES[0]))
