"""Makes of charts/attune/values.yaml the schema of its values and the tables of its README, and brings rules and
dashboards into the chart, which helm cannot read from outside it.

`python charts/generate.py` writes; `--check` compares with what is committed and exits 1 on drift.

A key of values.yaml is a value of its own if a comment stands directly above it; keys without one are part of the value
above. A last line `@schema {…}` of the comment narrows the type that follows from the default; `"$kubernetes": NAME` in
it is a type of Kubernetes, taken from its OpenAPI document. Every key of `defaults` may stand under a component too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parent / "attune"
DEPLOY = CHART.parent.parent / "deploy"
COPIES = {"rules": "prometheus/rules/*.yaml", "dashboards": "grafana/*.json"}
COMPONENTS = ("policy", "reward", "ingest", "join", "trainer")
KUBERNETES = "v1.37.0-local-strict"
SCHEMA_MARK, TABLES_MARK = "@schema ", "## Values\n"
TYPES: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


@dataclass
class Value:
    """A documented key of the values file; `parts` are those below it, if they are documented too."""

    key: str
    default: Any
    text: str
    narrowing: dict[str, Any]
    parts: dict[str, Value] = field(default_factory=dict)


def read_values(text: str) -> dict[str, Value]:
    """The documented keys of a values file. ValueError for one at the top without a comment."""
    lines = text.splitlines()
    values = _parts(yaml.compose(text), yaml.safe_load(text), lines)
    if undocumented := yaml.safe_load(text).keys() - values.keys():
        raise ValueError(f"no comment above {', '.join(sorted(undocumented))}")
    return values


def _parts(node: yaml.Node | None, default: Any, lines: list[str]) -> dict[str, Value]:
    if not isinstance(node, yaml.MappingNode) or node.flow_style:
        return {}
    found = {}
    for key, value in node.value:
        if comment := _comment_above(key.start_mark.line, key.start_mark.column, lines):
            own = default[key.value]
            text, narrowing = _read_comment(comment)
            found[key.value] = Value(key.value, own, text, narrowing, _parts(value, own, lines))
    return found


def _comment_above(line: int, column: int, lines: list[str]) -> list[str]:
    start = line
    while start and lines[start - 1].startswith(" " * column + "#"):
        start -= 1
    return [text.strip().removeprefix("#").strip() for text in lines[start:line]]


def _read_comment(comment: list[str]) -> tuple[str, dict[str, Any]]:
    text = " ".join(line for line in comment if not line.startswith(SCHEMA_MARK))
    marked = [json.loads(line.removeprefix(SCHEMA_MARK)) for line in comment if line.startswith(SCHEMA_MARK)]
    return text, marked[0] if marked else {}


def schema(values: dict[str, Value]) -> dict[str, Any]:
    """JSON schema of the values, with the definitions of Kubernetes that it refers to."""
    properties = {key: _schema_of(value) for key, value in values.items()}
    for component in COMPONENTS:
        properties[component]["properties"] = properties["defaults"]["properties"] | properties[component]["properties"]
    properties["global"]["additionalProperties"] = True
    whole = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart attune",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }
    return whole | {"definitions": _definitions(whole)}


def _schema_of(value: Value) -> dict[str, Any]:
    described = {"description": value.text}
    if value.parts:
        parts = {key: _schema_of(part) for key, part in value.parts.items()}
        return described | {"type": "object", "additionalProperties": False, "properties": parts}
    if "$kubernetes" in value.narrowing:
        return described | _referring(value.narrowing)
    return described | {"type": TYPES[type(value.default)]} | _referring(value.narrowing)


def _referring(narrowing: Any) -> Any:
    """With `$kubernetes` and the references of Kubernetes' own document made references into this one."""
    if isinstance(narrowing, list):
        return [_referring(item) for item in narrowing]
    if not isinstance(narrowing, dict):
        return narrowing
    if name := narrowing.get("$kubernetes"):
        return {"$ref": f"#/definitions/{name}"}
    return {key: _referring(item) for key, item in narrowing.items()}


def _definitions(whole: dict[str, Any]) -> dict[str, Any]:
    spec = find_spec("kubernetes_validate")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("kubernetes-validate is missing: run make install")
    folder = Path(spec.submodule_search_locations[0]) / "kubernetes-json-schema" / KUBERNETES
    known = json.loads((folder / "_definitions.json").read_text())["$defs"]
    definitions: dict[str, Any] = {}
    wanted = set(_referred(whole))
    while missing := wanted - definitions.keys():
        definitions |= {name: _terse(known[name]) for name in missing}
        wanted = {name for definition in definitions.values() for name in _referred(definition)} | set(_referred(whole))
    return dict(sorted(definitions.items()))


def _referred(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(reference := part.get("$ref"), str):
            yield reference.rpartition("/")[2]
        for item in part.values():
            yield from _referred(item)
    elif isinstance(part, list):
        for item in part:
            yield from _referred(item)


def _terse(definition: Any, is_properties: bool = False) -> Any:
    """Without descriptions and Kubernetes' own marks, and referring into our document."""
    if isinstance(definition, list):
        return [_terse(item) for item in definition]
    if not isinstance(definition, dict):
        return definition
    if "$ref" in definition and not is_properties:
        return {"$ref": f"#/definitions/{definition['$ref'].rpartition('/')[2]}"}
    kept = {
        key: item
        for key, item in definition.items()
        if is_properties or (key != "description" and not key.startswith("x-"))
    }
    return {key: _terse(item, is_properties=not is_properties and key == "properties") for key, item in kept.items()}


def tables(values: dict[str, Value]) -> str:
    """The values as Markdown, a table for each part of the file."""
    single = [value for value in values.values() if not value.parts]
    sections = [value for value in values.values() if value.parts]
    text = _table(row for value in single for row in _rows(value, ""))
    for section in sections:
        rows = [row for part in section.parts.values() for row in _rows(part, f"{section.key}.")]
        overrides = [
            f"| `{section.key}.{key}` | `{json.dumps(default)}` | In place of `defaults.{key}`. |"
            for key, default in section.default.items()
            if key not in section.parts
        ]
        text += f"\n### {section.key}\n\n{section.text}\n\n{_table([*rows, *overrides])}"
    return text


def _rows(value: Value, prefix: str) -> Iterator[str]:
    if value.parts:
        for part in value.parts.values():
            yield from _rows(part, f"{prefix}{value.key}.")
        return
    choices = value.narrowing.get("enum")
    text = value.text + (f" One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else "")
    yield f"| `{prefix}{value.key}` | `{json.dumps(value.default)}` | {text.replace('|', chr(92) + '|')} |"


def _table(rows: Any) -> str:
    return "| value | default | meaning |\n|---|---|---|\n" + "".join(f"{row}\n" for row in rows)


def generated() -> dict[Path, str]:
    """What each generated file must hold."""
    values = read_values((CHART / "values.yaml").read_text())
    readme = (CHART / "README.md").read_text()
    head = readme.partition(TABLES_MARK)[0]
    files = {
        CHART / "values.schema.json": json.dumps(schema(values), indent=1, sort_keys=False) + "\n",
        CHART / "README.md": f"{head}{TABLES_MARK}\n{tables(values)}",
    }
    for folder, pattern in COPIES.items():
        files |= {CHART / "files" / folder / source.name: source.read_text() for source in DEPLOY.glob(pattern)}
    return files


def stale(files: dict[Path, str]) -> list[Path]:
    """Generated files that are not what they must be, and those that should not be there."""
    differing = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    extra = [path for path in (CHART / "files").rglob("*.*") if path not in files]
    return differing + extra


def write(files: dict[Path, str]) -> None:
    for path in stale(files):
        path.unlink(missing_ok=True)
        if path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="Write nothing; exit 1 if something is stale.")
    files = generated()
    if not parser.parse_args().check:
        write(files)
        return 0
    for path in stale(files):
        print(f"{path} is stale: run python charts/generate.py", file=sys.stderr)
    return 1 if stale(files) else 0


if __name__ == "__main__":
    sys.exit(main())
