"""Names, manifests and alias records: what is written is read back, and nothing else is."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from attune.domain.errors import InvalidInput, RegistryCorrupt
from attune.domain.revisions import (
    ALIASES,
    AliasRecord,
    FileHash,
    Lineage,
    Manifest,
    ModelName,
    RevisionName,
    check_alias,
    content_digest,
)
from hypothesis import given
from hypothesis import strategies as st

segments = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
kinds = st.sampled_from(["policies", "rewards"])
names = st.builds(RevisionName, kinds, segments, st.integers(1, 10**12))
counts = st.integers(0, 2**53)
finite = st.floats(allow_nan=False, allow_infinity=False)
hashes = st.builds(FileHash, st.from_regex(r"[0-9a-f]{64}", fullmatch=True), counts)
paths = st.lists(segments, min_size=1, max_size=3).map("/".join)
manifests = st.builds(
    Manifest,
    name=names,
    epoch=counts,
    parent=st.none() | counts,
    reward_revision=st.none() | names.map(str),
    example_sequence=counts,
    step=counts,
    create_time=finite,
    metrics=st.dictionaries(st.text(), finite, max_size=4),
    details=st.dictionaries(st.text(), st.text(), max_size=4),
    files=st.dictionaries(paths, hashes, max_size=4),
)
records = st.builds(
    AliasRecord, st.sampled_from(ALIASES), counts, counts, counts, st.none() | counts, finite, st.text(), st.text()
)
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(names)
def test_a_revision_name_reads_back(name: RevisionName) -> None:
    assert RevisionName.parse(str(name)) == name
    assert ModelName.parse(str(name.model_name)) == name.model_name
    assert name.model_name.revision(name.number) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "support",
        "policies/support",
        "policies/support/revisions/",
        "policies/support/revisions/0",
        "policies/support/revisions/07",
        "policies/support/revisions/-1",
        "policies/support/revisions/٣",
        "policies/support/revisions/7/",
        "policies/support/revisions/7\n",
        "policies/../revisions/7",
        "policies/.hidden/revisions/7",
        "policies/a b/revisions/7",
        "critics/support/revisions/7",
        "policies/support/versions/7",
        f"policies/{'a' * 64}/revisions/7",
    ],
)
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        RevisionName.parse(text)


@pytest.mark.parametrize("text", ["", "policies", "policies/", "policies/a/b", "rewards/..", "other/a"])
def test_other_model_names_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        ModelName.parse(text)


def test_only_the_three_aliases_are_aliases() -> None:
    assert [check_alias(alias) for alias in ALIASES] == ["stable", "canary", "latest"]
    for text in ("7", "Stable", "../stable", ""):
        with pytest.raises(InvalidInput):
            check_alias(text)


@given(manifests)
def test_a_manifest_reads_back(manifest: Manifest) -> None:
    assert Manifest.from_json(manifest.to_json()) == manifest


@given(records)
def test_an_alias_record_reads_back(record: AliasRecord) -> None:
    assert AliasRecord.from_json(record.to_json()) == record


@given(records, st.data())
def test_a_torn_record_is_corrupt(record: AliasRecord, data: st.DataObject) -> None:
    whole = record.to_json().rstrip()
    with pytest.raises(RegistryCorrupt):
        AliasRecord.from_json(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_anything_else_is_corrupt(data: bytes) -> None:
    for kind in (Manifest, AliasRecord):
        with pytest.raises(RegistryCorrupt):
            kind.from_json(data)


FIELDS: dict[str, Any] = json.loads(
    Manifest(name=RevisionName("policies", "support", 2), create_time=1.0, files={"a": FileHash("0" * 64, 1)}).to_json()
)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "policies/support/revisions/0"),
        ("parent", "1"),
        ("parent", True),
        ("epoch", -1),
        ("example_sequence", 1.5),
        ("create_time", math.nan),
        ("metrics", {"kl": math.inf}),
        ("metrics", {"kl": "2"}),
        ("details", {"note": 3}),
        ("reward_revision", "support"),
        ("files", {"../../outside": {"sha256": "0" * 64, "size": 1}}),
        ("files", {"/etc/passwd": {"sha256": "0" * 64, "size": 1}}),
        ("files", {"a\\b": {"sha256": "0" * 64, "size": 1}}),
        ("files", {"a": {"sha256": "0" * 63, "size": 1}}),
        ("files", {"a": {"sha256": "0" * 64}}),
        ("files", []),
    ],
)
def test_an_edited_manifest_is_corrupt(field: str, value: Any) -> None:
    Manifest.from_json(json.dumps(FIELDS).encode())
    with pytest.raises(RegistryCorrupt):
        Manifest.from_json(json.dumps(FIELDS | {field: value}).encode())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_figures_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(InvalidInput, match="kl"):
        Lineage(metrics={"kl": value})


def test_the_content_digest_tells_contents_apart() -> None:
    one, two = FileHash("0" * 64, 1), FileHash("1" * 64, 1)
    assert content_digest({"a": one, "b": two}) == content_digest({"b": two, "a": one})
    contents = [{"a": one}, {"b": one}, {"a": two}, {"a": one, "b": one}, {}]
    assert len({content_digest(content) for content in contents}) == len(contents)
