"""The table of metrics in deploy/metrics.md holds exactly what the processes expose."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from attune.feedback.ingest.metrics import IngestMetrics
from attune.feedback.join.metrics import JoinMetrics
from attune.platform.rpc.interceptors import RpcMetrics
from attune.platform.telemetry import MetricDescription, describe
from attune.platform.tracing import TracingMetrics
from attune.platform.web.server import HttpMetrics
from attune.policy.metrics import PolicyMetrics
from attune.reward.metrics import RewardMetrics
from attune.trainer.metrics import TrainerMetrics
from prometheus_client import CollectorRegistry

TABLE = Path(__file__).parents[2] / "deploy" / "metrics.md"
OWN = {
    "policy": PolicyMetrics,
    "reward": RewardMetrics,
    "ingest": IngestMetrics,
    "join": JoinMetrics,
    "trainer": TrainerMetrics,
    "every server": RpcMetrics,
    "every server with an HTTP door": HttpMetrics,
    "every process that sends traces": TracingMetrics,
}
ROW = re.compile(r"^\| `(attune_\w+)` \| (\w+) \| (.+) \|$")


def exposed(service: str) -> list[MetricDescription]:
    registry = CollectorRegistry()
    OWN[service](registry)
    return describe(registry)


def documented(service: str) -> list[MetricDescription]:
    """The rows below the service's heading."""
    section = re.split(r"^## ", TABLE.read_text(), flags=re.MULTILINE)
    (mine,) = [part for part in section if part.splitlines()[0].strip() == service]
    return [MetricDescription(*match.groups()) for line in mine.splitlines() if (match := ROW.match(line))]


@pytest.mark.parametrize("service", OWN)
def test_the_table_is_what_is_exposed(service: str) -> None:
    assert documented(service) == exposed(service), "\n".join(rows(service))


def test_no_meaning_breaks_the_table() -> None:
    assert not [m.name for service in OWN for m in exposed(service) if "|" in m.help]


def rows(service: str) -> list[str]:
    """What the table should say."""
    return [f"| `{m.name}` | {m.type} | {m.help} |" for m in exposed(service)]


def test_a_name_means_the_same_wherever_it_stands() -> None:
    by_name: dict[str, set[MetricDescription]] = {}
    for metric in (m for service in OWN for m in exposed(service)):
        by_name.setdefault(metric.name, set()).add(metric)
    assert all(len(meanings) == 1 for meanings in by_name.values())
    assert "attune_feedback_freshness_seconds" in by_name
