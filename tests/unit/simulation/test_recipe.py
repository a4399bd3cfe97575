"""The recipe: every setting it gives the trainer exists, and the seed reaches everything."""

from __future__ import annotations

from attune.platform.config import load_settings
from attune.simulation.recipe import MAX_TOKENS, Recipe
from attune.trainer.config import TrainerSettings


def test_the_trainer_takes_its_settings() -> None:
    settings = load_settings(TrainerSettings, Recipe(seed=4).trainer())
    assert settings.seed == 4
    assert settings.rollouts.max_tokens == MAX_TOKENS
    assert settings.gate.kl_ceiling <= 5.0


def test_the_seed_reaches_every_stage() -> None:
    recipe = Recipe(seed=4)
    seeds = [recipe.pretraining().seed, recipe.sft().seed, recipe.reward_model(is_gate=False).seed]
    assert seeds == [4, 4, 4]
    assert recipe.reward_model(is_gate=True).seed != recipe.reward_model(is_gate=False).seed


def test_a_prompt_and_the_longest_answer_fit_the_context() -> None:
    assert Recipe().shape.context >= 2 * MAX_TOKENS
