"""What the registry's tests share: a registry in each place, and folders to publish."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
from attune.domain.revisions import ModelName
from attune.platform.registry.registry import Registry


@pytest.fixture(params=["directory", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a registry is. The one in memory stands for stores that are not a directory; it cannot take threads."""
    if request.param == "directory":
        yield str(tmp_path / "registry")
        return
    location = f"memory://{uuid.uuid4().hex}"
    yield location
    filesystem, root = fsspec.core.url_to_fs(location)
    if filesystem.exists(root):
        filesystem.rm(root, recursive=True)


@pytest.fixture
def registry(url: str) -> Registry:
    return Registry(url)


@pytest.fixture
def model() -> ModelName:
    return ModelName("policies", "support")


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a model folder whose weights are the given text."""

    def build(weights: str) -> Path:
        made = tmp_path / f"source-{uuid.uuid4().hex}"
        (made / "nested").mkdir(parents=True)
        (made / "model.safetensors").write_text(weights)
        (made / "config.json").write_text("{}")
        (made / "nested" / "vocabulary.txt").write_text("a\nb\n")
        return made

    return build
