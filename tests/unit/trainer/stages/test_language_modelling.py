"""The masked loss against a literal one, for three families, and learning."""

from __future__ import annotations

import pytest
import torch
from attune.modeling.loading import new_policy
from attune.trainer.stages.language_modelling import LanguageModelLearner, MaskedSequence
from attune.trainer.stages.training import StageSettings
from tiny_models import FAMILIES, tiny_shape, tiny_tokenizer

SETTINGS = StageSettings(batch_size=2, precision="float32", warmup_steps=0)
SEQUENCES = [MaskedSequence((9, 8, 7, 6, 1), learnt_from=3), MaskedSequence((40, 41, 1), learnt_from=1)]


def _learner(family: str = "llama", settings: StageSettings = SETTINGS) -> LanguageModelLearner:
    tokenizer = tiny_tokenizer()
    model = new_policy(tiny_shape(family), tokenizer)
    return LanguageModelLearner(model, int(tokenizer.pad_token_id), SEQUENCES, SEQUENCES, settings)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_the_loss_is_the_mean_over_learnt_tokens_only(family: str) -> None:
    learner = _learner(family)
    nats = []
    for sequence in SEQUENCES:
        logp = torch.log_softmax(learner.model(torch.tensor([sequence.ids])).logits[0], -1)
        nats += [-logp[t - 1, sequence.ids[t]].item() for t in range(sequence.learnt_from, len(sequence.ids))]
    assert len(nats) == 4
    assert learner.validate() == pytest.approx(sum(nats) / 4, abs=1e-5)


def test_a_step_reports_the_loss_before_it_and_learns() -> None:
    learner = _learner()
    before = learner.validate()
    loss, tokens = learner.step(0, 1e-2)
    assert loss == pytest.approx(before, abs=1e-5)
    assert tokens == 8
    after = learner.validate()
    assert before is not None
    assert after is not None
    assert after < before


def test_bfloat16_products_keep_float32_weights_and_nearly_the_loss() -> None:
    exact, rounded = _learner(), _learner(settings=StageSettings(batch_size=2, precision="bfloat16"))
    loss, _ = rounded.step(0, 1e-3)
    assert loss == pytest.approx(exact.step(0, 1e-3)[0], rel=2e-2)
    assert all(p.dtype == torch.float32 for p in rounded.model.parameters())


def test_nothing_held_out_has_no_loss() -> None:
    tokenizer = tiny_tokenizer()
    model = new_policy(tiny_shape(), tokenizer)
    assert LanguageModelLearner(model, 0, SEQUENCES, [], SETTINGS).validate() is None
