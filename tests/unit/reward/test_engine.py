"""The engine in this process: what it loads gives the scores of the model, and what is no reward model is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from attune.domain.errors import CheckpointRefused
from attune.domain.revisions import RevisionName
from attune.modeling.reward_model import load_reward_model
from attune.reward.engine import TransformersEngine

NAME = RevisionName.parse("rewards/support/revisions/1")
INPUTS = [[5, 6, 7, 1], [8, 1]]


def test_it_scores_as_the_model_does(tiny_reward: Path) -> None:
    model = load_reward_model(tiny_reward).model
    loaded = TransformersEngine().load(NAME, tiny_reward, None)
    with torch.inference_mode():
        alone = [float(model.scores(torch.tensor([row]), torch.ones(1, len(row)).long())) for row in INPUTS]
    assert loaded.raw_scores(INPUTS) == pytest.approx(alone, abs=1e-5)
    assert loaded.max_context == 64


def test_the_trunk_is_of_the_type_asked_for(tiny_reward: Path) -> None:
    loaded = TransformersEngine(dtype=torch.bfloat16).load(NAME, tiny_reward, None)
    assert loaded.model.trunk.dtype == torch.bfloat16
    assert loaded.model.head.weight.dtype == torch.float32


def test_another_tokenizer_is_refused(tiny_reward: Path) -> None:
    with pytest.raises(CheckpointRefused):
        TransformersEngine().load(NAME, tiny_reward, "another hash")
