"""What the chart says to a service is what the service understands: its settings class reads what was rendered."""

from __future__ import annotations

import base64
import importlib
import logging
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from attune.cli.check import check
from attune.cli.kafka import TopicsSettings
from attune.cli.main import COMMANDS, attune
from attune.cli.service import KNOWN_SERVICES
from attune.domain.access import Scope
from attune.platform.access.keys import KeyStore
from attune.platform.config import ServiceSettings, load_settings
from support import helm

pytestmark = pytest.mark.chart
CLASSES = {
    "attune-policy": ("attune.policy", "PolicySettings"),
    "attune-reward": ("attune.reward", "RewardSettings"),
    "attune-feedback-ingest": ("attune.feedback.ingest", "IngestSettings"),
    "attune-feedback-join": ("attune.feedback.join", "JoinSettings"),
    "attune-trainer": ("attune.trainer", "TrainerSettings"),
}
SECURED = helm.CHART / "ci" / "secured-values.yaml"
SETTINGS_FILE = "/etc/attune/settings/settings.toml"
# Files that the chart names must be mounted: all below here are.
MOUNTED = re.compile(r"^(/etc/attune|/var/lib/attune|/var/cache/attune|sqlite:////var/lib/attune)(/|$)")


def settings_class(name: str) -> type[ServiceSettings]:
    package, cls = CLASSES[name]
    return getattr(importlib.import_module(f"{package}.config"), cls)


def variables(pod: helm.Object) -> dict[str, str]:
    """The container's variables, with something in the place of what a Secret would say."""
    return {entry["name"]: entry.get("value", "of a Secret") for entry in pod["containers"][0].get("env", [])}


def settings_text(objects: list[helm.Object], name: str) -> str:
    return helm.of_kind(objects, "ConfigMap")[name]["data"]["settings.toml"]


def read(objects: list[helm.Object], name: str, tmp_path: Path) -> Any:
    file = tmp_path / f"{name}.toml"
    file.write_text(settings_text(objects, name))
    environment = variables(helm.pods(objects)[name])
    return load_settings(settings_class(name), (), file, environment, KNOWN_SERVICES)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("values_file", [None, *helm.CI], ids=lambda file: file.stem if file else "defaults")
def test_each_service_reads_its_settings(
    name: str, values_file: Path | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        settings = read(helm.render({}, *([values_file] if values_file else [])), name, tmp_path)
    assert settings.health_port
    assert not caplog.records, "a variable that is no setting"


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("values_file", [None, *helm.CI], ids=lambda file: file.stem if file else "defaults")
def test_every_file_that_is_named_is_mounted(name: str, values_file: Path | None) -> None:
    objects = helm.render({}, *([values_file] if values_file else []))
    pod = helm.pods(objects)[name]
    mounts = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]
    named = [value for value in _strings(tomllib.loads(settings_text(objects, name))) if MOUNTED.match(value)]
    named += [match for value in named for match in re.findall(r"sslrootcert=(\S+)", value)]
    for path in (SETTINGS_FILE, *(value.removeprefix("sqlite:///") for value in named)):
        assert any(path.startswith(mount) for mount in mounts), f"{path} lies below none of {mounts}"


def _strings(settings: dict[str, Any]) -> list[str]:
    values = [_strings(value) if isinstance(value, dict) else [value] for value in settings.values()]
    return [value for found in values for value in found if isinstance(value, str)]


@pytest.mark.parametrize("name", CLASSES)
def test_mounts_and_volumes_go_together(name: str) -> None:
    for values_file in helm.CI:
        objects = helm.render({}, values_file)
        own = helm.of_kind(objects, "StatefulSet").get(name, {"spec": {}})
        claims = {claim["metadata"]["name"] for claim in own["spec"].get("volumeClaimTemplates", [])}
        pod = helm.pods(objects)[name]
        mounted = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]} | claims


@pytest.mark.parametrize("name", CLASSES)
def test_ports_are_those_of_the_settings(name: str, tmp_path: Path) -> None:
    objects = helm.render()
    settings = read(objects, name, tmp_path)
    ports = {port["name"]: port["containerPort"] for port in helm.pods(objects)[name]["containers"][0]["ports"]}
    said = {"metrics": settings.metrics_port, "health": settings.health_port}
    said |= {door: getattr(settings, door).port for door in ("app", "control", "http") if hasattr(settings, door)}
    assert ports == said


@pytest.mark.parametrize("name", CLASSES)
def test_each_container_runs_a_command_that_exists(name: str) -> None:
    container = helm.pods(helm.render())[name]["containers"][0]
    command = container["args"][: container["args"].index("--config")]
    assert container["command"] == ["attune"]
    assert command == name.removeprefix("attune-").split("-")
    assert command[0] in COMMANDS


def test_settings_of_ones_own_reach_the_service(tmp_path: Path) -> None:
    objects = helm.render({"trainer": {"settings": {"rollouts": {"prompts": 5}, "ppo": {"actor_lr": 1e-5}}}})
    settings = read(objects, "attune-trainer", tmp_path)
    assert (settings.rollouts.prompts, settings.ppo.actor_lr) == (5, 1e-5)


def test_settings_that_the_chart_decides_are_refused() -> None:
    with pytest.raises(helm.RenderRefused, match=r"policy\.settings\.app\.port is decided by the chart"):
        helm.render({"policy": {"settings": {"app": {"port": 1}}}})


def test_the_database_is_that_of_the_values(tmp_path: Path) -> None:
    settings = read(helm.render({}, SECURED), "attune-feedback-join", tmp_path)
    assert settings.database == (
        "postgresql+psycopg://attune@postgresql.databases:5432/attune"
        "?sslmode=verify-full&sslrootcert=/etc/attune/postgresql-authority/ca.crt"
    )


def test_the_trainer_calls_names_that_are_services(tmp_path: Path) -> None:
    objects = helm.render()
    services = helm.of_kind(objects, "Service")
    addresses = read(objects, "attune-trainer", tmp_path).addresses.model_dump(exclude={"timeout_s"})
    for address in addresses.values():
        host, port = address.split(":")
        name, namespace, _ = host.split(".")
        assert namespace == "ml"
        assert int(port) in [entry["port"] for entry in services[name]["spec"]["ports"]]


def test_the_job_of_topics_understands_its_flags() -> None:
    container = helm.pods(helm.render({}, SECURED))["attune-topics"]["containers"][0]
    assert container["args"][:2] == ["topics", "create"]
    flags = [flag.removeprefix("--set=") for flag in container["args"] if flag.startswith("--set=")]
    environment = {entry["name"]: entry.get("value", "attune") for entry in container["env"]}
    kafka = load_settings(TopicsSettings, flags, None, environment, KNOWN_SERVICES).kafka
    assert (kafka.bootstrap, kafka.mechanism, kafka.username) == ("broker.kafka:9093", "SCRAM-SHA-512", "attune")
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    for file in (kafka.ca_file, kafka.cert_file, kafka.key_file, kafka.password_file):
        assert str(Path(file).parent) in mounts


def test_keys_that_the_chart_makes_open_what_they_should(tmp_path: Path) -> None:
    values = {"auth": {"apps": [{"name": "shop", "scopes": ["generate", "feedback"]}]}}
    secret = helm.of_kind(helm.render(values), "Secret")["attune-keys"]
    entries = {name: base64.b64decode(text).decode() for name, text in secret["data"].items()}
    file = tmp_path / "keys.json"
    file.write_text(entries.pop("keys.json"))
    store = KeyStore(file)
    opened = {name: store.known(text) for name, text in entries.items()}
    assert {name: (found.name, set(found.scopes)) for name, found in opened.items() if found} == {
        "app-shop.key": ("shop", {Scope.GENERATE, Scope.FEEDBACK}),
        "operator.key": ("operator", {Scope.CONTROL}),
        "test.key": ("helm-test", {Scope.GENERATE, Scope.SCORE, Scope.FEEDBACK}),
        "trainer-app.key": ("attune.trainer", {Scope.GENERATE, Scope.SCORE}),
        "trainer-control.key": ("attune.trainer", {Scope.CONTROL}),
    }


def test_every_rendering_makes_other_keys() -> None:
    first, second = (helm.of_kind(helm.render(), "Secret")["attune-keys"]["data"] for _ in range(2))
    assert not set(first.values()) & set(second.values())


def test_no_secret_stands_in_a_config_map_or_among_arguments() -> None:
    for values_file in helm.CI:
        for item in helm.render({}, values_file):
            assert "password =" not in yaml.safe_dump(item)


def test_the_pod_of_helm_test_says_what_its_command_understands() -> None:
    container = helm.pods(helm.render({}, SECURED))["attune-test"]["containers"][0]
    command, *arguments = container["args"]
    assert command in COMMANDS
    known = {option.envvar for options in (attune.params, check.params) for option in options}
    assert {entry["name"] for entry in container["env"]} <= known
    with check.make_context(command, arguments) as context:
        assert context.params["app"] == "helm-test"
