"""helm, built from its Go module, and the schemas of the operators whose objects the chart makes, from theirs.

Both lie in caches of the user: the program in ~/.cache/attune (ATTUNE_TOOLS_CACHE), the modules where Go keeps them.
Where Go is missing the test is skipped, or fails if ATTUNE_REQUIRE_PARTS is set.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import referencing
import yaml
from support.parts import missing

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "attune"
CI = sorted((CHART / "ci").glob("*-values.yaml"))
HELM = "helm.sh/helm/v4/cmd/helm@v4.2.4"
CRDS = {
    "github.com/cert-manager/cert-manager@v1.21.2": [
        "deploy/crds/cert-manager.io_certificates.yaml",
        "deploy/crds/cert-manager.io_issuers.yaml",
    ],
    "github.com/kedacore/keda/v2@v2.21.0": [
        "config/crd/bases/keda.sh_scaledobjects.yaml",
        "config/crd/bases/keda.sh_triggerauthentications.yaml",
    ],
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": [
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ],
}
CACHE = Path(os.environ.get("ATTUNE_TOOLS_CACHE", Path.home() / ".cache" / "attune"))
MISSING = "Go 1.26 or newer is not installed, with which helm is built"
Object = dict[str, Any]


class RenderRefused(Exception):
    """helm refused the values; the message is what it says."""


@functools.cache
def helm() -> Path:
    """The program, built the first time."""
    if shutil.which("go") is None:
        missing(MISSING)
    folder = CACHE / HELM.rpartition("@")[2].replace("v", "helm-", 1)
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "helm").exists():
            subprocess.run(["go", "install", HELM], check=True, env=os.environ | {"GOBIN": str(folder)})
    return folder / "helm"


def run(*arguments: str | Path) -> str:
    """What helm prints. RenderRefused if it ends with an error."""
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"HELM_CACHE_HOME": home, "HELM_CONFIG_HOME": home, "HELM_DATA_HOME": home}
        done = subprocess.run(
            [helm(), *arguments], check=False, capture_output=True, text=True, env=environment, timeout=60
        )
    if done.returncode:
        raise RenderRefused(done.stderr or done.stdout)
    return done.stdout


def render_text(
    values: Mapping[str, Any] | None = None,
    *files: Path,
    release: str = "attune",
    namespace: str = "ml",
    apis: Sequence[str] = (),
    show: str = "",
) -> str:
    """The manifests, for `values` over those of `files`. RenderRefused as helm says."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as own:
        yaml.safe_dump(dict(values or {}), own)
        own.flush()
        options = [f"--values={file}" for file in (*files, Path(own.name))]
        options += [f"--api-versions={api}" for api in apis]
        options += [f"--show-only={show}"] if show else []
        return run("template", release, CHART, f"--namespace={namespace}", *options)


def render(values: Mapping[str, Any] | None = None, *files: Path, **how: Any) -> list[Object]:
    """The objects."""
    return [item for item in yaml.load_all(render_text(values, *files, **how), yaml.CSafeLoader) if item]


def of_kind(objects: Sequence[Object], kind: str) -> dict[str, Object]:
    """Those of a kind by their names."""
    return {item["metadata"]["name"]: item for item in objects if item["kind"] == kind}


def pods(objects: Sequence[Object]) -> dict[str, Object]:
    """The pod specifications by the names of what makes the pods."""
    found = {}
    for item in objects:
        if item["kind"] in ("Deployment", "StatefulSet", "Job"):
            found[item["metadata"]["name"]] = item["spec"]["template"]["spec"]
        elif item["kind"] == "Pod":
            found[item["metadata"]["name"]] = item["spec"]
    return found


def check(item: Object, version: str) -> None:
    """Holds an object to the strict schema of its kind. jsonschema.ValidationError if it does not stand, KeyError if
    nobody knows the kind."""
    api = item["apiVersion"]
    if (api, item["kind"]) in custom_schemas():
        jsonschema.Draft202012Validator(custom_schemas()[api, item["kind"]]).validate(item)
    else:
        _kubernetes(version, api, item["kind"]).validate(item)


@functools.cache
def _kubernetes(version: str, api: str, kind: str) -> jsonschema.Draft202012Validator:
    group, _, name = api.rpartition("/")
    file = "-".join(filter(None, (kind.lower(), group.partition(".")[0], name))) + ".json"
    spec = find_spec("kubernetes_validate")
    assert spec
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "kubernetes-json-schema" / f"v{version}-local-strict"
    if not (folder / file).exists():
        raise KeyError(f"{api} {kind} is not known to Kubernetes {version}")
    return jsonschema.Draft202012Validator(json.loads((folder / file).read_text()), registry=_definitions(folder))


@functools.cache
def _definitions(folder: Path) -> referencing.Registry:
    document = json.loads((folder / "_definitions.json").read_text())
    return referencing.Resource.from_contents(document) @ referencing.Registry()


@functools.cache
def custom_schemas() -> dict[tuple[str, str], Object]:
    """Schemas of the operators' kinds, by API version and kind, that refuse what they do not know."""
    helm()  # Go is there
    done = subprocess.run(
        ["go", "mod", "download", "-json", *CRDS], check=True, capture_output=True, text=True, cwd="/"
    )
    folders = {f"{item['Path']}@{item['Version']}": Path(item["Dir"]) for item in _json_values(done.stdout)}
    files = [folders[module] / file for module, names in CRDS.items() for file in names]
    documents = [document for file in files for document in yaml.load_all(file.read_text(), _Loader)]
    return {key: schema for document in documents for key, schema in _schemas_of(document).items()}


class _Loader(yaml.CSafeLoader):
    """Takes a bare `=`, of which YAML 1.1 makes something of its own, for what it is."""


_Loader.add_constructor("tag:yaml.org,2002:value", yaml.CSafeLoader.construct_yaml_str)


def _json_values(text: str) -> list[Any]:
    values, decoder = [], json.JSONDecoder()
    while text := text.strip():
        value, end = decoder.raw_decode(text)
        values.append(value)
        text = text[end:]
    return values


def _schemas_of(definition: Object) -> dict[tuple[str, str], Object]:
    spec = definition["spec"]
    kind = spec["names"]["kind"]
    return {
        (f"{spec['group']}/{version['name']}", kind): _strict(version["schema"]["openAPIV3Schema"], is_top=True)
        for version in spec["versions"]
    }


def _strict(schema: Any, is_top: bool = False) -> Any:
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    own = {key: _strict(item) for key, item in schema.items()}
    if own.pop("x-kubernetes-int-or-string", False):
        own.pop("type", None)
    is_open = own.get("x-kubernetes-preserve-unknown-fields") or own.get("additionalProperties")
    if isinstance(own.get("properties"), dict) and not is_open:
        own["additionalProperties"] = False
    if is_top:
        own["properties"]["metadata"] = {"type": "object"}
    return own


if __name__ == "__main__":
    print(helm(), len(custom_schemas()))
