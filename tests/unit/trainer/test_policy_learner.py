"""The PPO update on tiny models: what must hold at the first pass, across micro-batches, and across a checkpoint."""

import math
from dataclasses import replace

import pytest
import torch
from attune.domain.errors import TrainingStopped
from attune.trainer.policy_learner import PPOSettings
from support.learning import rollouts, tiny_learner


def weights(learner):
    return {k: v.detach().clone() for k, v in (*learner.actor.named_parameters(), *learner.critic.named_parameters())}


def test_ratio_is_one_and_kl_zero_at_the_first_pass():
    learner = tiny_learner()
    figures = learner.update(rollouts(learner), seed=0)
    assert figures["ratio_min"] == figures["ratio_max"] == 1.0
    assert figures["approx_kl"] == 0.0
    assert figures["clip_fraction"] == 0.0
    # Actor and reference enter with the same weights.
    assert figures["kl"] == pytest.approx(0.0, abs=1e-5)
    assert all(math.isfinite(value) for value in figures.values())


def test_update_raises_the_probability_of_what_scored_well():
    learner = tiny_learner(PPOSettings(actor_lr=3e-3, warmup_steps=1, missing_eos="score"))
    batch = [replace(r, score=5.0 if i % 2 else -5.0) for i, r in enumerate(rollouts(learner, 8))]

    def logprob_sums() -> list[float]:
        sums = []
        for r in batch:
            part = learner._collate([r])
            with torch.no_grad():
                sums.append(learner._logprobs(learner.actor, part)[0].sum().item())
        return sums

    before = logprob_sums()
    for step in range(5):
        learner.update(batch, seed=step)
    gained = [b - a for a, b in zip(before, logprob_sums(), strict=True)]
    assert sum(gained[1::2]) > sum(gained[0::2])


def test_micro_batches_give_the_same_update():
    whole = tiny_learner(PPOSettings(tokens_per_micro_batch=10_000))
    parts = tiny_learner(PPOSettings(tokens_per_micro_batch=30))
    batch = rollouts(whole, 7)
    first, second = whole.update(batch, 0), parts.update(batch, 0)
    assert second["policy_loss"] == pytest.approx(first["policy_loss"], abs=1e-5)
    assert second["kl"] == pytest.approx(first["kl"], abs=1e-4)
    assert second["ratio_max"] == pytest.approx(1.0, abs=1e-5)
    for (name, a), b in zip(weights(whole).items(), weights(parts).values(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=0, msg=name)


def test_later_minibatches_move_away_from_the_old_policy():
    learner = tiny_learner(PPOSettings(epochs=2, minibatches=2, actor_lr=1e-2, warmup_steps=1))
    figures = learner.update(rollouts(learner, 8), seed=3)
    assert figures["ratio_max"] > 1.0
    assert figures["approx_kl"] > 0.0


def test_saved_learner_goes_on_bit_for_bit(tmp_path):
    learner = tiny_learner(PPOSettings(kl_target=1.0))
    learner.update(rollouts(learner, seed=1), 1)
    learner.save(tmp_path)
    other = tiny_learner(PPOSettings(kl_target=1.0), seed=5)
    other.reference = learner.reference
    other.load(tmp_path)
    assert other.kl == learner.kl
    assert learner.update(rollouts(learner, seed=2), 2) == other.update(rollouts(learner, seed=2), 2)
    for a, b in zip(weights(learner).values(), weights(other).values(), strict=True):
        assert torch.equal(a, b)


def test_non_finite_stops_before_the_weights_change():
    learner = tiny_learner()
    before = weights(learner)
    batch = [replace(r, score=math.nan) for r in rollouts(learner)]
    with pytest.raises(TrainingStopped, match="not finite"):
        learner.update(batch, 0)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), weights(learner).values(), strict=True))


def test_sequence_kl_is_zero_at_the_start_and_grows():
    learner = tiny_learner(PPOSettings(actor_lr=1e-2, warmup_steps=1, kl_coefficient=0.0))
    batch = rollouts(learner, 8)
    assert learner.sequence_kl(batch) == pytest.approx(0.0, abs=1e-6)
    for step in range(3):
        learner.update(batch, step)
    assert learner.sequence_kl(batch) != pytest.approx(0.0, abs=1e-3)


def test_engine_gap_is_told_and_its_weight_capped():
    learner = tiny_learner(PPOSettings(importance_cap=2.0))
    batch = [replace(r, logprobs=tuple(-30.0 for _ in r.logprobs)) for r in rollouts(learner)]
    figures = learner.update(batch, 0)
    assert figures["engine_gap_capped_fraction"] == 1.0
    assert figures["engine_gap_max_abs"] > 1.0
