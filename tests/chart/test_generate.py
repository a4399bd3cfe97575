"""What is made of the values file: a schema, tables, copies; and what a stale one is told."""

from __future__ import annotations

import json
from pathlib import Path

import generate
import jsonschema
import pytest
import yaml

VALUES = """
# Pods.
policy:
  # How many.
  # @schema {"minimum": 1}
  replicas: 1
  # Tolerations.
  # @schema {"items": {"$kubernetes": "io.k8s.api.core.v1.Toleration"}}
  tolerations: []
  drain: 5
"""


def test_comments_make_values() -> None:
    policy = generate.read_values(VALUES)["policy"]
    assert policy.text == "Pods."
    assert policy.parts["replicas"].narrowing == {"minimum": 1}
    assert "drain" not in policy.parts


def test_a_value_without_a_comment_is_refused() -> None:
    with pytest.raises(ValueError, match="no comment above policy"):
        generate.read_values("policy: 1\n")


def test_a_row_tells_value_default_and_meaning() -> None:
    text = generate.tables(generate.read_values(VALUES))
    assert "| `policy.replicas` | `1` | How many. |" in text
    assert "| `policy.drain` | `5` | In place of `defaults.drain`. |" in text


def test_the_schema_takes_what_the_values_file_says() -> None:
    values = generate.read_values((generate.CHART / "values.yaml").read_text())
    schema = generate.schema(values)
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.Draft7Validator(schema).validate(yaml.safe_load((generate.CHART / "values.yaml").read_text()))


@pytest.mark.parametrize(
    "values",
    [
        {"nobody": 1},
        {"policy": {"replicas": -1}},
        {"policy": {"replicas": "two"}},
        {"policy": {"tolerations": [{"kee": "x"}]}},
        {"kafka": {"bootstrap": "no port"}},
        {"image": {"slim": {"digest": "latest"}}},
    ],
    ids=lambda values: json.dumps(values),
)
def test_the_schema_refuses(values: dict) -> None:
    schema = json.loads((generate.CHART / "values.schema.json").read_text())
    assert list(jsonschema.Draft7Validator(schema).iter_errors(values))


def test_a_shared_value_may_stand_under_a_component() -> None:
    schema = json.loads((generate.CHART / "values.schema.json").read_text())
    jsonschema.Draft7Validator(schema).validate({"join": {"priorityClassName": "high", "drainSeconds": 20}})


def test_stale_files_are_named_and_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "CHART", tmp_path)
    extra = tmp_path / "files" / "rules" / "gone.yaml"
    extra.parent.mkdir(parents=True)
    extra.write_text("old")
    files = {tmp_path / "README.md": "text"}
    assert set(generate.stale(files)) == {tmp_path / "README.md", extra}
    generate.write(files)
    assert not generate.stale(files)
    assert not extra.exists()
