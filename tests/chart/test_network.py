"""Who may reach whom: services, network policies and certificates, as they are rendered."""

from __future__ import annotations

from typing import Any

import pytest
from support import helm

pytestmark = pytest.mark.chart
SETS = {file.stem: file for file in helm.CI}
SECURED = SETS["secured-values"]
PORTS = {
    "attune-policy": {"app": 7001, "control": 7101, "metrics": 7201, "http": 7301},
    "attune-reward": {"app": 7002, "control": 7102, "metrics": 7202},
    "attune-feedback-ingest": {"app": 7003, "metrics": 7203, "http": 7303},
    "attune-feedback-join": {"control": 7104, "metrics": 7204},
    "attune-trainer": {"control": 7105, "metrics": 7205},
}
SHOP = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}}


def peers(objects: list[helm.Object], name: str) -> dict[int, list[Any]]:
    """Who may call each port."""
    policy = helm.of_kind(objects, "NetworkPolicy")[name]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    return {port["port"]: rule["from"] for rule in policy["ingress"] for port in rule["ports"]}


def components(found: list[Any]) -> set[str]:
    labels = [peer.get("podSelector", {}).get("matchLabels", {}) for peer in found]
    return {label["app.kubernetes.io/component"] for label in labels if "app.kubernetes.io/component" in label}


def test_every_pod_is_under_a_policy_of_its_own() -> None:
    policies = helm.of_kind(helm.render(), "NetworkPolicy")
    selected = {
        policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for policy in policies.values()
    }
    assert selected == {"policy", "reward", "feedback-ingest", "feedback-join", "trainer", "test"}


@pytest.mark.parametrize("name", PORTS)
def test_control_ports_are_closed_to_apps(name: str) -> None:
    allowed = peers(helm.render({}, SECURED), name)
    control = PORTS[name].get("control")
    if control is None:
        return
    assert SHOP not in allowed[control]
    assert components(allowed[control]) <= {"trainer", "test"}
    assert {"podSelector": {"matchLabels": {"attune/operator": "true"}}} in allowed[control]


def test_apps_reach_the_doors_that_are_theirs() -> None:
    objects = helm.render({}, SECURED)
    for name in ("attune-policy", "attune-feedback-ingest"):
        assert SHOP in peers(objects, name)[PORTS[name]["app"]]
        assert SHOP in peers(objects, name)[PORTS[name]["http"]]
    assert SHOP not in peers(objects, "attune-reward")[PORTS["attune-reward"]["app"]]


def test_apps_reach_the_reward_server_where_it_is_for_them() -> None:
    objects = helm.render({"reward": {"isForApps": True}}, SECURED)
    assert SHOP in peers(objects, "attune-reward")[PORTS["attune-reward"]["app"]]


@pytest.mark.parametrize("name", PORTS)
@pytest.mark.parametrize("group", ["apps", "operators", "metrics"])
def test_an_empty_list_of_peers_lets_nobody_in(name: str, group: str) -> None:
    """A rule with an empty `from` would let everybody in."""
    objects = helm.render({"networkPolicy": {group: []}})
    assert all(found for found in peers(objects, name).values())


def test_what_the_trainer_calls_lets_it_in() -> None:
    objects = helm.render()
    egress = helm.of_kind(objects, "NetworkPolicy")["attune-trainer"]["spec"]["egress"]
    called = {
        (component, port["port"])
        for rule in egress
        for component in components(rule.get("to", []))
        for port in rule["ports"]
    }
    assert called == {("policy", 7001), ("policy", 7101), ("reward", 7002), ("reward", 7102), ("feedback-join", 7104)}
    for component, port in called:
        assert "trainer" in components(peers(objects, f"attune-{component}")[port])


def test_the_test_pod_is_let_in_where_it_calls() -> None:
    objects = helm.render()
    egress = helm.of_kind(objects, "NetworkPolicy")["attune-test"]["spec"]["egress"]
    for rule in egress:
        for component in components(rule.get("to", [])):
            for port in rule["ports"]:
                assert "test" in components(peers(objects, f"attune-{component}")[port["port"]])


@pytest.mark.parametrize(
    ("name", "port", "reached"),
    [
        ("attune-policy", 9093, True),
        ("attune-feedback-ingest", 9093, True),
        ("attune-feedback-join", 9093, True),
        ("attune-feedback-join", 5432, True),
        ("attune-policy", 9000, True),
        ("attune-trainer", 9000, True),
        ("attune-trainer", 6443, True),
        ("attune-reward", 9093, False),
        ("attune-policy", 5432, False),
        ("attune-feedback-ingest", 9000, False),
        ("attune-policy", 6443, False),
    ],
)
def test_each_reaches_only_the_parts_that_it_uses(name: str, port: int, reached: bool) -> None:
    egress = helm.of_kind(helm.render({}, SECURED), "NetworkPolicy")[name]["spec"]["egress"]
    rules = [rule for rule in egress if {"port": port} in rule["ports"]]
    assert bool(rules) is reached
    assert all("to" in rule for rule in rules)


def test_grpc_is_balanced_by_its_clients() -> None:
    services = helm.of_kind(helm.render(), "Service")
    for name in ("attune-policy", "attune-reward", "attune-feedback-ingest"):
        assert services[name]["spec"]["clusterIP"] == "None"
        assert "publishNotReadyAddresses" not in services[name]["spec"]
    for name in ("attune-policy-http", "attune-feedback-ingest-http"):
        assert "clusterIP" not in services[name]["spec"]


def test_internal_services_are_not_those_of_apps() -> None:
    services = helm.of_kind(helm.render(), "Service")
    for name, ports in PORTS.items():
        spec = services[f"{name}-internal"]["spec"]
        assert spec["publishNotReadyAddresses"] is True
        assert {entry["name"]: entry["port"] for entry in spec["ports"]} == {
            door: port for door, port in ports.items() if door in ("control", "metrics")
        }


def test_certificates_name_every_service_of_their_component() -> None:
    values = {"tls": {"enabled": True, "certManager": {"enabled": True}}, "assumeOperators": True}
    objects = helm.render(values)
    certificates = helm.of_kind(objects, "Certificate")
    for name in helm.of_kind(objects, "Service"):
        owner = name.removesuffix("-internal").removesuffix("-http")
        assert {name, f"{name}.ml.svc", f"{name}.ml.svc.cluster.local"} <= set(certificates[owner]["spec"]["dnsNames"])
    issuers = helm.of_kind(objects, "Issuer")
    assert all(certificate["spec"]["issuerRef"]["name"] in issuers for certificate in certificates.values())
    secrets = {certificate["spec"]["secretName"] for certificate in certificates.values()}
    for spec in helm.pods(objects).values():
        (mounted,) = [volume["secret"]["secretName"] for volume in spec["volumes"] if volume["name"] == "tls"]
        assert mounted in secrets


def test_an_issuer_of_ones_own_signs() -> None:
    objects = helm.render({}, SECURED)
    assert not helm.of_kind(objects, "Issuer")
    for certificate in helm.of_kind(objects, "Certificate").values():
        assert certificate["spec"]["issuerRef"] == {
            "name": "internal",
            "kind": "ClusterIssuer",
            "group": "cert-manager.io",
        }


def test_prometheus_finds_every_component_by_the_labels_of_the_rules() -> None:
    objects = helm.render({}, SECURED)
    (monitor,) = helm.of_kind(objects, "ServiceMonitor").values()
    (existing,) = monitor["spec"]["selector"]["matchExpressions"]
    found = {
        service["metadata"]["labels"][existing["key"]]
        for service in helm.of_kind(objects, "Service").values()
        if existing["key"] in service["metadata"]["labels"]
    }
    assert found == {"policy", "reward", "ingest", "join", "trainer"}
    (endpoint,) = monitor["spec"]["endpoints"]
    assert {entry["targetLabel"] for entry in endpoint["relabelings"]} == {"installation", "component"}
