"""The recipe: every setting it gives the trainer exists, and the seed reaches everything."""

from __future__ import annotations

import pytest
from attune.platform.config import load_settings
from attune.simulation.recipe import MAX_TOKENS, ROLLOUTS, Recipe
from attune.trainer.advantages import Algorithm
from attune.trainer.config import TrainerSettings


def test_the_trainer_takes_its_settings() -> None:
    settings = load_settings(TrainerSettings, Recipe(seed=4).trainer())
    assert settings.seed == 4
    assert settings.rollouts.max_tokens == MAX_TOKENS
    assert settings.gate.kl_ceiling <= 5.0


@pytest.mark.parametrize("algorithm", ["ppo", "grpo", "rloo"])
def test_every_algorithm_takes_as_many_rollouts(algorithm: Algorithm) -> None:
    settings = load_settings(TrainerSettings, Recipe(algorithm=algorithm).trainer())
    assert settings.algorithm == algorithm
    assert settings.rollouts.prompts * settings.rollouts.completions == ROLLOUTS


def test_the_seed_reaches_every_stage() -> None:
    recipe = Recipe(seed=4)
    seeds = [recipe.pretraining().seed, recipe.sft().seed, recipe.reward_model(is_gate=False).seed]
    assert seeds == [4, 4, 4]
    assert recipe.reward_model(is_gate=True).seed != recipe.reward_model(is_gate=False).seed


def test_a_prompt_and_the_longest_answer_fit_the_context() -> None:
    assert Recipe().shape.context >= 2 * MAX_TOKENS
