"""Every value set renders, strictly valid for Kubernetes and for the operators, and objects of every kind are there."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from support import helm

pytestmark = pytest.mark.chart
OLDEST, NEWEST = "1.29.0", "1.37.0"
OPERATORS = ("cert-manager.io/v1", "keda.sh/v1alpha1", "monitoring.coreos.com/v1")
DEFAULTS = Path("defaults")
SETS = [DEFAULTS, *helm.CI]


def rendered(values_file: Path) -> list[helm.Object]:
    return helm.render({}, *([] if values_file is DEFAULTS else [values_file]))


@pytest.mark.parametrize("values_file", SETS, ids=lambda file: file.stem)
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_object_is_strictly_valid(values_file: Path, version: str) -> None:
    objects = rendered(values_file)
    assert len(objects) > 25
    for item in objects:
        helm.check(item, version)


@pytest.mark.parametrize("values_file", SETS, ids=lambda file: file.stem)
def test_lint_is_content(values_file: Path) -> None:
    given = [] if values_file is DEFAULTS else [f"--values={values_file}"]
    assert "0 chart(s) failed" in helm.run("lint", "--strict", helm.CHART, *given)


@pytest.mark.parametrize("values_file", SETS, ids=lambda file: file.stem)
def test_no_name_stands_twice(values_file: Path) -> None:
    names = [(item["kind"], item["metadata"]["name"]) for item in rendered(values_file)]
    assert len(names) == len(set(names))


def test_every_kind_that_the_templates_hold_was_checked() -> None:
    written = {
        kind
        for file in (helm.CHART / "templates").rglob("*")
        if file.is_file()
        for kind in re.findall(r"^kind: (\w+)$", file.read_text(), re.MULTILINE)
    }
    seen = {item["kind"] for values_file in SETS for item in rendered(values_file)}
    assert written == seen


def test_a_misspelt_value_is_refused() -> None:
    with pytest.raises(helm.RenderRefused, match="additional properties 'replica' not allowed"):
        helm.render({"policy": {"replica": 2}})


def test_kubernetes_own_types_are_checked() -> None:
    with pytest.raises(helm.RenderRefused, match="additional properties 'limts' not allowed"):
        helm.render({"policy": {"resources": {"limts": {"cpu": 1}}}})


def test_the_strict_check_refuses_an_unknown_field() -> None:
    service = next(iter(helm.of_kind(helm.render(), "Service").values()))
    service["spec"]["selectr"] = {}
    with pytest.raises(jsonschema.ValidationError, match="selectr"):
        helm.check(service, NEWEST)


def test_the_strict_check_refuses_an_unknown_field_of_an_operator() -> None:
    certificate = {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": {"name": "x"},
        "spec": {"secretName": "x", "issuerRef": {"name": "x"}, "dnsName": ["x"]},
    }
    with pytest.raises(jsonschema.ValidationError, match="dnsName"):
        helm.check(certificate, NEWEST)


# Values that stand only for what is already said elsewhere, or act only in a cluster.
OTHER: dict[str, Any] = {
    "image.slim.digest": "sha256:" + "1" * 64,
    "image.full.digest": "sha256:" + "1" * 64,
    "kafka.bootstrap": "other:9092",
    "kafka.sasl.mechanism": "SCRAM-SHA-256",
    "postgresql.sslMode": "disable",
    "registry.url": "s3://other",
    "registry.s3.endpoint": "http://other:1",
    "listenHost": "::",
    "image.pullPolicy": "Always",
    "registry.volume.accessMode": "ReadWriteMany",
    "embedded.volume.accessMode": "ReadWriteMany",
    "trainer.state.accessMode": "ReadWriteOncePod",
    "defaults.logLevel": "debug",
    "auth.apps": [{"name": "shop", "scopes": ["generate"]}],
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "extra"}}],
    "defaults.settings": {"keys_file_of_nobody": 1},
    "defaults.resources": {"limits": {"cpu": 3}},
    "defaults.affinity": {"nodeAffinity": {}},
    "defaults.rollingUpdate": {"maxSurge": 3},
    "defaults.podSecurityContext": {"runAsUser": 7},
    "defaults.containerSecurityContext": {"runAsUser": 7},
    "defaults.tolerations": [{"key": "x", "operator": "Exists"}],
    "defaults.topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"},
    ],
    "defaults.extraEnv": [{"name": "X", "value": "z"}],
    "defaults.extraEnvFrom": [{"secretRef": {"name": "x"}}],
    "defaults.extraVolumes": [{"name": "x", "emptyDir": {}}],
    "defaults.extraVolumeMounts": [{"name": "x", "mountPath": "/x"}],
    "defaults.extraEgress": [{"ports": [{"port": 9}]}],
    "join.autoscaling.minReplicas": 0,
    "ingest.replicas": 3,
    "policy.replicas": 3,
}


def leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found = {}
    for key, value in values.items():
        if isinstance(value, dict) and value and f"{prefix}{key}" not in OTHER:
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def others(path: str, value: Any) -> list[Any]:
    """Values to try in the place of the default."""
    return [True, False] if isinstance(value, bool) else [OTHER[path] if path in OTHER else another(path, value)]


def another(path: str, value: Any) -> Any:
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return f"{value[:-2]}7{value[-2:]}" if value[-2:] in ("Gi", "Mi") else f"other{value}"
    if path.startswith("networkPolicy."):
        return [{"ipBlock": {"cidr": "192.0.2.0/24"}}]
    return ["other"] if isinstance(value, list) else {"other": "x"}


def nested(path: str, value: Any) -> dict[str, Any]:
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


LEAVES = leaves(yaml.safe_load((helm.CHART / "values.yaml").read_text()))


@pytest.fixture(scope="module")
def before() -> dict[Path, str]:
    return {values_file: text_of({}, values_file) for values_file in SETS}


def text_of(values: dict[str, Any], values_file: Path) -> str:
    """Manifests without what is drawn anew every time."""
    own = {} if "auth" in values else {"auth": {"existingSecret": "access"}}
    files = [] if values_file is DEFAULTS else [values_file]
    text = helm.render_text(own | values, *files, apis=OPERATORS)
    return re.sub(r"attune_\w+|: [A-Za-z0-9+/=]{60,}$", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("path", [path for path in LEAVES if path not in ("assumeOperators", "tests.enabled")])
def test_every_value_has_an_effect(path: str, before: dict[Path, str]) -> None:
    """In some set: otherwise nothing but the file of values knows it."""
    refusals = []
    for values_file, value in itertools.product(SETS, others(path, LEAVES[path])):
        try:
            if text_of(nested(path, value), values_file) != before[values_file]:
                return
        except helm.RenderRefused as refused:
            refusals.append(str(refused))
    pytest.fail(f"{path} changes nothing; refused: {refusals}")
