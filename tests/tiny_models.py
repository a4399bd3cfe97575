"""Models and tokenizers small enough for unit tests: two layers, 32 wide, three families."""

from __future__ import annotations

from pathlib import Path

from attune.modeling.loading import PolicyShape, load_for_training, new_policy, save_policy
from attune.modeling.reward_model import LoadedRewardModel, Normalisation, reward_model_on, save_reward_model
from attune.modeling.tokenizer import train_tokenizer
from transformers import PreTrainedTokenizerFast

FAMILIES = ("llama", "gpt2", "qwen2")
TEXTS = ["Where is my order 4711? It is on its way, Ada.", "How do I return a kettle? Send it back within 30 days."] * 4


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """300 tokens, control tokens included."""
    return train_tokenizer(TEXTS, vocabulary=300)


def tiny_shape(family: str = "llama", context: int = 64) -> PolicyShape:
    return PolicyShape(family=family, layers=2, width=32, heads=2, mlp_width=48, context=context)  # type: ignore[arg-type]


def tiny_policy_folder(folder: Path, family: str = "llama", seed: int = 0) -> Path:
    """A saved policy."""
    tokenizer = tiny_tokenizer()
    save_policy(new_policy(tiny_shape(family), tokenizer, seed), tokenizer, folder)
    return folder


def tiny_reward_folder(folder: Path, family: str = "llama", seed: int = 0) -> Path:
    """A saved reward model on the trunk of `tiny_policy_folder`, which is written beside it."""
    policy = tiny_policy_folder(folder.with_name(folder.name + "-trunk"), family, seed)
    model = reward_model_on(load_for_training(policy).model.base_model, seed)
    loaded = LoadedRewardModel(model, tiny_tokenizer(), 64, Normalisation(0.25, 2.0), {"thumbs": 0.5})
    save_reward_model(loaded, folder)
    return folder
