"""Tiny models and made-up rollouts for tests of the learner."""

import random

import torch
from attune.modeling.loading import LoadedPolicy, PolicyShape, new_policy
from attune.modeling.reward_model import LoadedRewardModel, RewardModel, critic_from_reward_model, reward_model_on
from attune.modeling.tokenizer import train_tokenizer
from attune.trainer.policy_learner import PolicyLearner, PPOSettings
from attune.trainer.preferences import Preference
from attune.trainer.rollouts import Rollout
from transformers import AutoModel

TEXTS = ["hello there, how are you today?", "your order 123 is late, sorry", "yes no good bad fine thanks"] * 3


def tiny_policy(seed: int = 0) -> LoadedPolicy:
    """A Llama of two layers and 32 wide with its own tokenizer."""
    tokenizer = train_tokenizer(TEXTS, 300)
    model = new_policy(PolicyShape(layers=2, width=32, heads=2, context=64), tokenizer, seed)
    return LoadedPolicy(model, tokenizer, 64)


def tiny_reward(policy: LoadedPolicy, seed: int = 1) -> LoadedRewardModel:
    """A reward model of the same shape as the policy, with weights of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        trunk = AutoModel.from_config(policy.model.config)
    return LoadedRewardModel(reward_model_on(trunk, seed), policy.tokenizer, policy.max_context)


def tiny_learner(settings: PPOSettings | None = None, seed: int = 0) -> PolicyLearner:
    policy, reference, chosen = tiny_policy(seed), tiny_policy(seed), settings or PPOSettings()
    has_critic = chosen.estimator().has_critic
    critic: RewardModel | None = critic_from_reward_model(tiny_reward(policy).model) if has_critic else None
    return PolicyLearner(policy.model, critic, reference.model, int(policy.tokenizer.pad_token_id), chosen)


def rollouts(
    learner: PolicyLearner, n: int = 6, seed: int = 0, max_response: int = 9, completions: int = 1
) -> list[Rollout]:
    """Random tokens of different lengths; every `completions` of them answer one prompt."""
    rng = random.Random(seed)
    made: list[Rollout] = []
    for i in range(n):
        prompt = tuple(rng.randrange(5, 250) for _ in range(rng.randint(2, 6)))
        if i % completions:
            prompt = made[-1].prompt_ids
        response = (*(rng.randrange(5, 250) for _ in range(rng.randint(1, max_response - 1))), 1)
        made.append(Rollout(prompt, response, tuple([-1.0] * len(response)), i % 3 != 0, rng.gauss(0, 1)))
    return made


def preferences(n: int = 12, seed: int = 0) -> list[Preference]:
    """Rankings, ratings and demonstrations that prefer "good" over "bad"."""
    made: list[Preference] = []
    for i in range(n):
        prompt = [{"role": "user", "content": f"hello {i + seed}"}]
        if i % 4 == 0:
            made.append(Preference(prompt, ("good fine",), "rating", value=1.0, source="thumbs"))
        elif i % 4 == 1:
            made.append(Preference(prompt, ("thanks good", "bad"), "demonstration"))
        elif i % 4 == 2:
            made.append(Preference(prompt, ("bad", "good", "bad no"), "ranking", tiers=((1,), (0, 2))))
        else:
            made.append(Preference(prompt, ("good yes", "no bad"), "ranking", tiers=((0,), (1,))))
    return made
