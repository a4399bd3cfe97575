"""The reward model's loss equals that of TRL's RewardTrainer on the same pairs: its value and its gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from attune.modeling.reward_model import RewardModel
from attune.trainer.likelihood import CorrectedScore, RankedScores, pair_nll, preference_nll
from datasets import Dataset
from support.learning import tiny_policy
from support.trl_ppo import as_reward_model, scorer
from torch import Tensor
from trl import RewardConfig, RewardTrainer

pytestmark = [pytest.mark.trl, pytest.mark.filterwarnings("ignore")]  # warnings of what TRL uses

LENGTHS = [(3, 9), (7, 7), (12, 4), (5, 6), (2, 11)]
MARGINS = [0.5, 0.0, 1.5, -0.25, 1.0]


@pytest.fixture
def trainer(tmp_path: Path) -> RewardTrainer:
    policy = tiny_policy()
    config = RewardConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", gradient_checkpointing=False
    )
    return RewardTrainer(scorer(policy.model, 1), config, train_dataset=_pairs(), processing_class=policy.tokenizer)


def _pairs() -> Dataset:
    draw = torch.Generator().manual_seed(0)
    texts = [[torch.randint(5, 250, (n,), generator=draw).tolist() for n in pair] for pair in LENGTHS]
    return Dataset.from_dict({"chosen_ids": [c for c, _ in texts], "rejected_ids": [r for _, r in texts]})


def inputs_of(trainer: RewardTrainer, **columns: Any) -> dict[str, Tensor]:
    rows = [row | {k: v[i] for k, v in columns.items()} for i, row in enumerate(trainer.train_dataset)]
    return trainer.data_collator(rows)


def scores_of(ours: RewardModel, inputs: dict[str, Tensor]) -> Tensor:
    return ours.scores(inputs["input_ids"], inputs["attention_mask"])


def test_the_loss_of_pairs_and_its_gradient(trainer: RewardTrainer) -> None:
    inputs, ours = inputs_of(trainer), as_reward_model(trainer.model)
    theirs = trainer.compute_loss(trainer.model, dict(inputs))
    n, scores = len(LENGTHS), scores_of(ours, inputs)
    comparisons = [RankedScores([[i], [n + i]]) for i in range(n)]
    loss = preference_nll(scores, comparisons).loss
    assert loss.item() == pytest.approx(theirs.item(), abs=1e-6)
    assert pair_nll(scores[:n], scores[n:]).mean().item() == pytest.approx(theirs.item(), abs=1e-6)
    theirs.backward()
    loss.backward()
    pairs = dict(trainer.model.model.named_parameters())
    for name, parameter in ours.trunk.named_parameters():
        torch.testing.assert_close(parameter.grad, pairs[name].grad, atol=1e-6, rtol=1e-4, msg=name)
    torch.testing.assert_close(ours.head.weight.grad, trainer.model.score.weight.grad, atol=1e-6, rtol=1e-4)


def test_a_margin_is_taken_from_the_preferred_score(trainer: RewardTrainer) -> None:
    inputs, ours = inputs_of(trainer, margin=MARGINS), as_reward_model(trainer.model)
    theirs = trainer.compute_loss(trainer.model, dict(inputs))
    chosen, rejected = scores_of(ours, inputs).chunk(2)
    assert pair_nll(chosen - torch.tensor(MARGINS), rejected).mean().item() == pytest.approx(theirs.item(), abs=1e-6)


def test_a_demonstration_weighs_as_a_pair_of_its_own(trainer: RewardTrainer) -> None:
    inputs, ours = inputs_of(trainer), as_reward_model(trainer.model)
    theirs = trainer.compute_loss(trainer.model, dict(inputs))
    n = len(LENGTHS)
    corrections = [CorrectedScore(i, n + i) for i in range(n)]
    assert preference_nll(scores_of(ours, inputs), corrections).loss.item() == pytest.approx(theirs.item(), abs=1e-6)
