"""What the benchmark of PPO trains: models of random weights, and prompts of 16 tokens.

The Llama shape of 3.7 million parameters: 4 layers, 256 wide, 2048 tokens. So that every response has all its tokens,
PAD and EOS have an embedding of zeros while the last norm makes the logits of all others wide.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, cast

import torch
from attune.domain.revisions import STABLE, ModelName
from attune.modeling.anchors import write_anchors
from attune.modeling.loading import PolicyShape, load_for_training, new_policy, save_policy
from attune.modeling.reward_model import LoadedRewardModel, reward_model_on, save_reward_model
from attune.modeling.tokenizer import render_prompt, train_tokenizer
from attune.platform.registry.registry import Registry
from transformers import PreTrainedTokenizerBase

SHAPE = PolicyShape(family="llama", layers=4, width=256, heads=4, mlp_width=688, context=256)
VOCABULARY, LOGIT_WIDTH = 2048, 24.0
EPISODES, PROMPT_TOKENS, RESPONSE_TOKENS = 64, 16, 64
PROMPTS = 256
POLICY, REWARD, GATE = ModelName("policies", "bench"), ModelName("rewards", "bench"), ModelName("rewards", "bench-gate")
SYLLABLES = [a + b for a in "bdfghklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "el", "or")]


def made_work(folder: Path) -> int:
    """Writes model, reward model, prompts.json (text and tokens) and a registry that holds them; parameters."""
    rng = random.Random(0)
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(2, 4))) for _ in range(4000)]
    tokenizer = train_tokenizer([" ".join(words[i : i + 20]) for i in range(0, len(words), 20)] * 2, VOCABULARY)
    model = new_policy(SHAPE, tokenizer)
    trunk = cast(Any, model.base_model)
    with torch.no_grad():
        trunk.embed_tokens.weight[[tokenizer.pad_token_id, tokenizer.eos_token_id]] = 0.0
        trunk.norm.weight.fill_(LOGIT_WIDTH)
    save_policy(model, tokenizer, folder / "model")
    reward = reward_model_on(load_for_training(folder / "model").model.base_model)
    save_reward_model(LoadedRewardModel(reward, tokenizer, SHAPE.context), folder / "reward")
    prompts = [_prompt(tokenizer, rng) for _ in range(PROMPTS)]
    (folder / "prompts.json").write_text(json.dumps(prompts))
    anchors = [([{"role": "user", "content": prompt["text"]}], "yes") for prompt in prompts[:2]]
    write_anchors(folder / "reward", anchors)
    registry = Registry(folder / "system" / "registry")
    for name, content in ((POLICY, "model"), (REWARD, "reward"), (GATE, "reward")):
        epoch = registry.take_epoch([name], "bench")
        registry.publish(name.revision(1), folder / content, epoch=epoch)
        registry.move_alias(name, STABLE, 1, epoch=epoch, actor="bench", reason="")
    return int(model.num_parameters())


def _prompt(tokenizer: PreTrainedTokenizerBase, rng: random.Random) -> dict[str, Any]:
    """One user turn that is rendered as exactly PROMPT_TOKENS tokens."""
    while True:
        words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 3)))]
        while len(ids := _rendered(tokenizer, words)) < PROMPT_TOKENS:
            words.append("".join(rng.choices(SYLLABLES, k=rng.randint(1, 3))))
        if len(ids) == PROMPT_TOKENS:
            return {"text": " ".join(words), "ids": list(ids)}


def _rendered(tokenizer: PreTrainedTokenizerBase, words: list[str]) -> list[int]:
    return render_prompt(tokenizer, [{"role": "user", "content": " ".join(words)}])
