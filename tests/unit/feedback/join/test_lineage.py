"""Revisions that had read past an example."""

from __future__ import annotations

from pathlib import Path

import pytest
from attune.domain.revisions import ModelName
from attune.feedback.join.lineage import revisions_after, revisions_after_or_none
from attune.platform.registry.registry import Registry

MODELS = [ModelName("policies", "support"), ModelName("rewards", "support")]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry, weights = Registry(tmp_path / "registry"), tmp_path / "weights"
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(b"weights")
    epoch = registry.take_epoch(MODELS, "trainer")
    for model in MODELS:
        for number, sequence in ((1, 0), (2, 10), (3, 25)):
            registry.publish(model.revision(number), weights, epoch=epoch, example_sequence=sequence)
    return registry


def test_every_model_is_asked(registry: Registry) -> None:
    assert [str(name) for name in revisions_after(registry, 10)] == [
        "policies/support/revisions/2",
        "policies/support/revisions/3",
        "rewards/support/revisions/2",
        "rewards/support/revisions/3",
    ]
    assert revisions_after(registry, 26) == []


def test_an_empty_registry_has_none(tmp_path: Path) -> None:
    assert revisions_after(Registry(tmp_path / "none"), 1) == []


def test_what_could_not_be_asked_is_said(registry: Registry, tmp_path: Path) -> None:
    assert revisions_after_or_none(registry, (30, 26)) == ([], "")
    assert revisions_after_or_none(registry, ()) == ([], "")
    assert "No registry" in revisions_after_or_none(None, (1,))[1]
    (tmp_path / "registry/policies/support/revisions/2/manifest.json").write_text("{")
    revisions, excuse = revisions_after_or_none(registry, (1,))
    assert revisions == []
    assert "could not be read" in excuse
