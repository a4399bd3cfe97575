"""Pods: restricted, probed on the health port, with one budget to start and one to drain, on the right nodes."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from support import helm

pytestmark = pytest.mark.chart
SETS = {file.stem: file for file in helm.CI}
GPU, SECURED, EMBEDDED = (SETS[f"{name}-values"] for name in ("gpu-kafka", "secured", "embedded"))
SERVICES = ("policy", "reward", "feedback-ingest", "feedback-join", "trainer")
SLACK_S = 5


def settings(objects: list[helm.Object], name: str) -> dict:
    return tomllib.loads(helm.of_kind(objects, "ConfigMap")[f"attune-{name}"]["data"]["settings.toml"])


def pod(objects: list[helm.Object], name: str) -> helm.Object:
    return helm.pods(objects)[f"attune-{name}"]


@pytest.mark.parametrize("values_file", helm.CI, ids=lambda file: file.stem)
def test_every_pod_is_restricted(values_file: Path) -> None:
    """As the Pod Security Standard of that name asks, and with a root that cannot be written."""
    for spec in helm.pods(helm.render({}, values_file)).values():
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] != 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not any(spec.get(field) for field in ("hostNetwork", "hostPID", "hostIPC"))
        allowed = {"name", "configMap", "secret", "emptyDir", "persistentVolumeClaim"}
        assert all(volume.keys() <= allowed for volume in spec["volumes"])
        for container in spec["containers"]:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["readOnlyRootFilesystem"] is True
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert not any("hostPort" in port for port in container.get("ports", []))


@pytest.mark.parametrize("values_file", helm.CI, ids=lambda file: file.stem)
def test_no_pod_can_ask_the_api_server_but_a_trainer_with_a_lease(values_file: Path) -> None:
    objects = helm.render({}, values_file)
    has_lease = bool(helm.of_kind(objects, "Lease"))
    for name, spec in helm.pods(objects).items():
        assert spec["automountServiceAccountToken"] is (has_lease and name == "attune-trainer")
        assert spec["enableServiceLinks"] is False
    for account in helm.of_kind(objects, "ServiceAccount").values():
        assert account["automountServiceAccountToken"] is False


def test_the_trainer_may_touch_one_lease_and_nothing_else() -> None:
    objects = helm.render({"trainer": {"lease": {"enabled": True}}})
    (role,) = helm.of_kind(objects, "Role").values()
    (binding,) = helm.of_kind(objects, "RoleBinding").values()
    (lease,) = helm.of_kind(objects, "Lease")
    assert role["rules"] == [
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": [lease],
            "verbs": ["get", "update"],
        }
    ]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "attune-trainer", "namespace": "ml"}]


def test_without_a_lease_nobody_has_a_right() -> None:
    kinds = {item["kind"] for item in helm.render()}
    assert not kinds & {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "Lease"}


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("tls", [False, True])
def test_probes_ask_the_health_port_in_the_clear(name: str, tls: bool) -> None:
    certificates = {"enabled": tls, "certManager": {"enabled": tls}}
    objects = helm.render({"tls": certificates, "assumeOperators": True})
    container = pod(objects, name)["containers"][0]
    port = settings(objects, name)["health_port"]
    assert container["startupProbe"]["grpc"] == {"port": port, "service": "liveness"}
    assert container["livenessProbe"]["grpc"] == {"port": port, "service": "liveness"}
    assert container["readinessProbe"]["grpc"] == {"port": port, "service": "readiness"}


@pytest.mark.parametrize("seconds", [60, 601])
def test_one_value_is_the_start_up_budget(seconds: int) -> None:
    deployment = helm.of_kind(helm.render({"policy": {"startupSeconds": seconds}}), "Deployment")["attune-policy"]
    probe = deployment["spec"]["template"]["spec"]["containers"][0]["startupProbe"]
    assert 0 <= probe["periodSeconds"] * probe["failureThreshold"] - seconds < probe["periodSeconds"]
    assert deployment["spec"]["progressDeadlineSeconds"] == seconds + 120


@pytest.mark.parametrize("name", SERVICES)
def test_one_value_is_the_drain_budget(name: str) -> None:
    objects = helm.render({name.removeprefix("feedback-"): {"drainSeconds": 200}})
    said = settings(objects, name)
    notice_s = said.get("notice_s", 0)
    grace_s = said["drain_s"] if name == "trainer" else said["grace_s"]
    assert pod(objects, name)["terminationGracePeriodSeconds"] == 200
    assert notice_s + grace_s + SLACK_S == 200
    assert grace_s > 0


def test_what_stands_under_a_component_holds_in_place_of_the_shared() -> None:
    values = {"defaults": {"nodeSelector": {"disk": "ssd"}}, "policy": {"nodeSelector": {"gpu": "big"}}}
    objects = helm.render(values)
    assert pod(objects, "policy")["nodeSelector"] == {"gpu": "big"}
    assert pod(objects, "reward")["nodeSelector"] == {"disk": "ssd"}


def test_gpus_are_asked_for_tolerated_and_used() -> None:
    objects = helm.render({}, GPU)
    for name in ("policy", "reward", "trainer"):
        spec = pod(objects, name)
        assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
        assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in spec["tolerations"]
        assert settings(objects, name)["device"] == "cuda"
        assert "/dev/shm" in [mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]]
    assert "tolerations" not in pod(objects, "feedback-ingest")


def test_without_gpus_it_computes_on_the_cpu() -> None:
    assert settings(helm.render(), "trainer")["device"] == "cpu"


def test_embedded_files_are_on_one_node_with_one_writer() -> None:
    objects = helm.render({}, EMBEDDED)
    for name in SERVICES:
        (term,) = pod(objects, name)["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term["topologyKey"] == "kubernetes.io/hostname"
        assert "app.kubernetes.io/component" not in term["labelSelector"]["matchLabels"]
    for name in ("policy", "feedback-ingest", "feedback-join"):
        assert helm.of_kind(objects, "Deployment")[f"attune-{name}"]["spec"]["strategy"] == {"type": "Recreate"}


def test_only_the_trainer_writes_to_the_registry() -> None:
    for name, spec in helm.pods(helm.render()).items():
        for mount in spec["containers"][0]["volumeMounts"]:
            if mount["name"] == "registry":
                assert mount.get("readOnly", False) is (name != "attune-trainer")


def test_disruption_budgets_are_there_for_more_than_one_pod() -> None:
    assert not helm.of_kind(helm.render(), "PodDisruptionBudget")
    budgets = helm.of_kind(helm.render({}, GPU), "PodDisruptionBudget")
    assert set(budgets) == {"attune-policy", "attune-reward", "attune-feedback-ingest"}


def test_a_component_can_be_switched_off() -> None:
    deployments = helm.of_kind(helm.render({"reward": {"replicas": 0}}), "Deployment")
    assert deployments["attune-reward"]["spec"]["replicas"] == 0


def test_who_is_scaled_by_itself_has_no_number_of_pods() -> None:
    deployments = helm.of_kind(helm.render({}, GPU), "Deployment")
    assert "replicas" not in deployments["attune-feedback-ingest"]["spec"]
    assert "replicas" not in deployments["attune-feedback-join"]["spec"]
    assert deployments["attune-policy"]["spec"]["replicas"] == 3


def test_the_join_is_scaled_by_the_lag_of_its_group() -> None:
    from attune.feedback.join.consumer import GROUP
    from attune.platform.events.log import Topic

    scaled = helm.of_kind(helm.render({}, GPU), "ScaledObject")["attune-feedback-join"]["spec"]
    triggers = [trigger["metadata"] for trigger in scaled["triggers"]]
    assert {trigger["topic"] for trigger in triggers} == {f"prod.{Topic.GENERATIONS}", f"prod.{Topic.FEEDBACK}"}
    assert {trigger["consumerGroup"] for trigger in triggers} == {f"prod.{GROUP}"}
    assert scaled["maxReplicaCount"] == 1


def test_images_are_those_of_the_mirror_by_digest() -> None:
    specs = helm.pods(helm.render({}, SETS["air-gapped-values"]))
    images = {container["image"] for spec in specs.values() for container in spec["containers"]}
    assert {image.partition("@")[0] for image in images} == {
        "mirror.internal:5000/ml/attune-slim",
        "mirror.internal:5000/ml/attune",
    }
    assert all("@sha256:" in image for image in images)
    assert all(spec["imagePullSecrets"] == [{"name": "mirror"}] for spec in specs.values())


def test_a_changed_setting_is_a_changed_pod() -> None:
    def annotations(values: dict) -> str:
        deployment = helm.of_kind(helm.render(values), "Deployment")["attune-reward"]
        return deployment["spec"]["template"]["metadata"]["annotations"]["attune/settings"]

    assert annotations({}) == annotations({})
    assert annotations({}) != annotations({"reward": {"settings": {"threads": 3}}})


def test_selectors_hold_nothing_that_a_release_changes() -> None:
    stable = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}
    for item in helm.render({"commonLabels": {"team": "ml"}}, GPU):
        if item["kind"] in ("Deployment", "StatefulSet"):
            assert item["spec"]["selector"]["matchLabels"].keys() == stable
