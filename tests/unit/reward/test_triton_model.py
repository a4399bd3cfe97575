"""The script that runs inside Triton: every family of models scores there as here, whatever the padding."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from attune.domain.revisions import RevisionName
from attune.modeling.reward_model import load_reward_model
from attune.reward.triton_engine import Timeouts, TritonEngine
from attune.reward.triton_repository import SCRIPT, TritonRepository
from tiny_models import FAMILIES, tiny_reward_folder
from triton_server import Triton

INPUTS = [[5, 6, 7, 9, 11, 1], [8, 1], [12, 13, 14, 1]]


def test_it_needs_nothing_of_attune() -> None:
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(SCRIPT.read_text()))
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        )
    }  # fmt: skip
    assert "torch" in imported
    assert "attune" not in imported


@pytest.mark.triton
@pytest.mark.timeout(300)
@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_scores_there_as_here(triton: Triton, tmp_path: Path, family: str) -> None:
    folder = tiny_reward_folder(tmp_path / "reward", family)
    repository = TritonRepository(triton.repository, family, batch_pairs=8, dtype="float32", threads=1)
    engine = TritonEngine(triton.url, family, repository, torch.float32, Timeouts())
    there = engine.load(RevisionName.parse(f"rewards/{family}/revisions/1"), folder, None)
    assert there.raw_scores(INPUTS) == pytest.approx(load_reward_model(folder).raw_scores(INPUTS), abs=1e-5)
    engine.close()
