"""The PPO update on tiny models: what must hold at the first pass, across micro-batches, and across a checkpoint."""

import math
from dataclasses import replace

import pytest
import torch
from attune.domain.errors import TrainingStopped
from attune.trainer.policy_learner import PolicyLearner, PPOSettings
from support.learning import rollouts, tiny_learner

ALGORITHMS = ["ppo", "grpo", "rloo"]


def weights(learner):
    models = [learner.actor, learner.critic] if learner.critic else [learner.actor]
    return {k: v.detach().clone() for model in models for k, v in model.named_parameters()}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_ratio_is_one_and_kl_zero_at_the_first_pass(algorithm):
    learner = tiny_learner(PPOSettings(algorithm=algorithm))
    figures = learner.update(rollouts(learner, completions=3), seed=0)
    assert figures["ratio_min"] == figures["ratio_max"] == 1.0
    assert figures["approx_kl"] == 0.0
    assert figures["clip_fraction"] == 0.0
    # Actor and reference enter with the same weights.
    assert figures["kl"] == pytest.approx(0.0, abs=1e-5)
    assert all(math.isfinite(value) for value in figures.values())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_update_raises_the_probability_of_what_scored_well(algorithm):
    learner = tiny_learner(PPOSettings(algorithm, actor_lr=3e-3, warmup_steps=1, missing_eos="score"))
    batch = [replace(r, score=5.0 if i % 2 else -5.0) for i, r in enumerate(rollouts(learner, 8, completions=4))]

    def logprob_sums() -> list[float]:
        sums = []
        for r in batch:
            part = learner._collate([r])
            with torch.no_grad():
                sums.append(learner._forward(part).logprobs.sum().item())
        return sums

    before = logprob_sums()
    for step in range(5):
        learner.update(batch, seed=step)
    gained = [b - a for a, b in zip(before, logprob_sums(), strict=True)]
    assert sum(gained[1::2]) > sum(gained[0::2])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_micro_batches_give_the_same_update(algorithm):
    whole = tiny_learner(PPOSettings(algorithm, tokens_per_micro_batch=10_000))
    parts = tiny_learner(PPOSettings(algorithm, tokens_per_micro_batch=30))
    batch = rollouts(whole, 7, completions=3)
    first, second = whole.update(batch, 0), parts.update(batch, 0)
    assert second["policy_loss"] == pytest.approx(first["policy_loss"], abs=1e-5)
    assert second["kl"] == pytest.approx(first["kl"], abs=1e-4)
    assert second["ratio_max"] == pytest.approx(1.0, abs=1e-5)
    for (name, a), b in zip(weights(whole).items(), weights(parts).values(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=0, msg=name)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_later_minibatches_move_away_from_the_old_policy(algorithm):
    learner = tiny_learner(PPOSettings(algorithm, epochs=2, minibatches=2, actor_lr=1e-2, warmup_steps=1))
    figures = learner.update(rollouts(learner, 8, completions=2), seed=3)
    assert figures["ratio_max"] > 1.0
    assert figures["approx_kl"] > 0.0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_saved_learner_goes_on_bit_for_bit(tmp_path, algorithm):
    learner = tiny_learner(PPOSettings(algorithm, kl_target=1.0))
    learner.update(rollouts(learner, seed=1, completions=2), 1)
    learner.save(tmp_path)
    other = tiny_learner(PPOSettings(algorithm, kl_target=1.0), seed=5)
    other.reference = learner.reference
    other.load(tmp_path)
    assert other.kl == learner.kl
    batch = rollouts(learner, seed=2, completions=2)
    assert learner.update(batch, 2) == other.update(batch, 2)
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


def test_without_a_critic_there_is_none_to_train_and_save(tmp_path):
    learner = tiny_learner(PPOSettings("grpo"))
    figures = learner.update(rollouts(learner, completions=3), 0)
    assert not {"value_loss", "explained_variance", "critic_grad_norm"} & figures.keys()
    learner.save(tmp_path)
    assert not list(tmp_path.glob("critic*"))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_critic_that_does_not_belong_is_refused(algorithm):
    right = tiny_learner(PPOSettings(algorithm))
    wrong = None if right.critic else tiny_learner().critic
    with pytest.raises(ValueError, match="critic"):
        PolicyLearner(right.actor, wrong, right.reference, 0, PPOSettings(algorithm))


def test_another_algorithm_goes_on_from_the_same_weights(tmp_path):
    before = tiny_learner(PPOSettings("rloo"))
    before.update(rollouts(before, completions=2), 0)
    before.save(tmp_path)
    after = tiny_learner(PPOSettings("ppo"), seed=5)
    critic = [p.detach().clone() for p in after.critic.parameters()]
    after.load(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(before.actor.parameters(), after.actor.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(critic, after.critic.parameters(), strict=True))


def test_responses_of_one_prompt_are_compared_with_each_other_only():
    """Adding a constant to the scores of all responses of one prompt changes nothing."""
    one, other = (tiny_learner(PPOSettings("rloo", tokens_per_micro_batch=40)) for _ in range(2))
    batch = rollouts(one, 8, completions=4)
    raised = [replace(r, score=r.score + (100.0 if i < 4 else 0.0)) for i, r in enumerate(batch)]
    one.update(batch, 0)
    other.update(raised, 0)
    for a, b in zip(weights(one).values(), weights(other).values(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


def test_grpo_is_drawn_to_the_reference_by_its_loss():
    batch, kl = rollouts(tiny_learner(), 8, completions=4), {}
    alike = [replace(r, score=0.0, ended=True) for r in batch]  # no advantages: what is left is the KL
    for coefficient in (0.0, 1.0):
        learner = tiny_learner(PPOSettings("grpo", actor_lr=1e-3, warmup_steps=1, kl_coefficient=coefficient))
        with torch.no_grad():
            for parameter in learner.actor.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        for step in range(4):
            learner.update(alike, step)
        kl[coefficient] = learner.sequence_kl(batch)
    assert kl[1.0] < kl[0.0]
