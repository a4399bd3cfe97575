"""What the registry's tests share: a registry in each place, and folders to publish."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from attune.domain.revisions import ModelName
from attune.platform.registry.registry import Registry
from support.s3 import S3Server


@pytest.fixture(params=["directory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a registry is: in a folder, and on an S3 server."""
    if request.param == "directory":
        return str(tmp_path / "registry")
    return request.getfixturevalue("s3_url")


@pytest.fixture
def s3_url(s3: S3Server) -> str:
    """A registry on an S3 server."""
    return f"s3://{s3.new_bucket()}/registry"


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
