"""Values that do not go together are refused before anything is installed, with what to do."""

from __future__ import annotations

from typing import Any

import pytest
from support import helm

pytestmark = pytest.mark.chart
KAFKA = {"bootstrap": "broker:9092"}
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "name": ({"fullnameOverride": ""}, "has more than 38 characters"),
    "policy replicas": ({"policy": {"replicas": 2}}, "policy.replicas is 2, but the embedded event log has one writer"),
    "ingest replicas": ({"ingest": {"replicas": 2}}, "set kafka.bootstrap, or ingest.replicas to 1"),
    "ingest scaled": ({"ingest": {"autoscaling": {"enabled": True}}}, "ingest.autoscaling.enabled needs Kafka"),
    "ingest bounds": (
        {"kafka": KAFKA, "ingest": {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 4}}},
        "minReplicas is above maxReplicas",
    ),
    "ingest cpu": (
        {"kafka": KAFKA, "ingest": {"autoscaling": {"enabled": True}}},
        "set ingest.resources.requests.cpu",
    ),
    "join scaled": ({"join": {"autoscaling": {"enabled": True}}}, "join.autoscaling goes by the lag on Kafka"),
    "topics": ({"kafka": {"topics": {"create": True}}}, "kafka.topics.create makes topics on Kafka"),
    "kafka tls without brokers": ({"kafka": {"tls": {"enabled": True}}}, "but not where: set kafka.bootstrap"),
    "sasl without secret": (
        {"kafka": KAFKA | {"sasl": {"mechanism": "SCRAM-SHA-512"}}},
        "name it in kafka.sasl.existingSecret",
    ),
    "plain in clear": (
        {"kafka": KAFKA | {"sasl": {"mechanism": "PLAIN", "existingSecret": "kafka"}}},
        "sends the password in clear: set kafka.tls.enabled",
    ),
    "authority without tls": (
        {"kafka": KAFKA | {"tls": {"authoritySecret": {"name": "ca"}}}},
        "of no use without encryption: set kafka.tls.enabled",
    ),
    "database without password": ({"postgresql": {"host": "db"}}, "name it in postgresql.passwordSecret.name"),
    "database without authority": (
        {"postgresql": {"host": "db", "passwordSecret": {"name": "db"}, "sslMode": "verify-full"}},
        "name the authority in postgresql.authoritySecret.name",
    ),
    "store without url": (
        {"registry": {"s3": {"endpoint": "http://objects:9000"}}},
        "set registry.url to s3://bucket/prefix",
    ),
    "other url": ({"registry": {"url": "gs://models"}}, "is no s3:// URL"),
    "no rollout": (
        {"policy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}},
        "policy.rollingUpdate allows neither a pod more nor one less",
    ),
    "certificates unused": ({"tls": {"certManager": {"enabled": True}}}, "certificates that nobody would use"),
    "no certificates": ({"tls": {"enabled": True}}, "or name a Secret in tls.existingSecrets"),
    "two makers of keys": (
        {"auth": {"existingSecret": "access", "apps": [{"name": "shop", "scopes": ["generate"]}]}},
        "leave auth.apps empty",
    ),
    "texts in logs": ({"policy": {"settings": {"log_texts": True}}}, "logs that no erasure reaches"),
    "no Prometheus": ({"monitoring": {"rules": {"enabled": True}}}, "needs monitoring.coreos.com/v1"),
    "no cert-manager": (
        {"tls": {"enabled": True, "certManager": {"enabled": True}}},
        "tls.certManager.enabled needs cert-manager.io/v1",
    ),
    "no KEDA": ({"kafka": KAFKA, "join": {"autoscaling": {"enabled": True}}}, "needs keda.sh/v1alpha1"),
}


@pytest.mark.parametrize("case", CASES)
def test_values_that_do_not_go_together_are_refused(case: str) -> None:
    values, message = CASES[case]
    release = "a-release-whose-name-is-long-enough-to-cut" if case == "name" else "attune"
    with pytest.raises(helm.RenderRefused) as refused:
        helm.render(values, release=release)
    assert message in " ".join(str(refused.value).split())


def test_every_check_has_a_case() -> None:
    template = (helm.CHART / "templates" / "validate.yaml").read_text()
    assert template.count("fail ") == len(CASES) - len(["ingest replicas", "no cert-manager", "no KEDA"])


def test_operators_that_are_there_are_found() -> None:
    values = {"monitoring": {"serviceMonitor": {"enabled": True}}}
    assert helm.of_kind(helm.render(values, apis=["monitoring.coreos.com/v1"]), "ServiceMonitor")
