"""What the benchmark of generation runs: a model of random weights that never ends on its own, and the requests.

The Llama shape of 3.7 million parameters: 4 layers, 256 wide, 2048 tokens. So that a completion is as long as it is
asked to be, PAD and EOS have an embedding of zeros while the last norm makes the logits of all others wide: EOS is then
drawn once in 10^9 tokens or rarer, and every engine, told to or not, writes the length it is given.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, cast

import torch
from attune.domain.revisions import STABLE, ModelName
from attune.modeling.loading import PolicyShape, new_policy, save_policy
from attune.modeling.tokenizer import render_prompt, train_tokenizer
from attune.platform.registry.registry import Registry
from generation_load import Piece
from transformers import PreTrainedTokenizerBase

MODEL = ModelName("policies", "support")
SHAPE = PolicyShape(family="llama", layers=4, width=256, heads=4, mlp_width=688, context=256)
VOCABULARY = 2048
PROMPT_TOKENS, WRITTEN_TOKENS = (8, 32), (16, 128)
LOGIT_WIDTH = 6.0
SYLLABLES = [a + b for a in "bdfghklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "el", "or")]


def made_model(folder: Path) -> tuple[PreTrainedTokenizerBase, int]:
    """Writes the model to `folder`; its tokenizer, and its number of parameters."""
    rng = random.Random(0)
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(2, 4))) for _ in range(4000)]
    tokenizer = train_tokenizer([" ".join(words[i : i + 20]) for i in range(0, len(words), 20)] * 2, VOCABULARY)
    model = new_policy(SHAPE, tokenizer)
    trunk = cast(Any, model.base_model)
    with torch.no_grad():
        trunk.embed_tokens.weight[[tokenizer.pad_token_id, tokenizer.eos_token_id]] = 0.0
        trunk.norm.weight.fill_(LOGIT_WIDTH)
    save_policy(model, tokenizer, folder)
    return tokenizer, model.num_parameters()


def published(model_folder: Path, registry_folder: Path) -> None:
    """Puts the model into a registry as the stable revision."""
    registry = Registry(registry_folder)
    epoch = registry.take_epoch([MODEL], "bench")
    registry.publish(MODEL.revision(1), model_folder, epoch=epoch)
    registry.move_alias(MODEL, STABLE, 1, epoch=epoch, actor="bench", reason="")


def made_work(tokenizer: PreTrainedTokenizerBase, requests: int, seed: int = 0) -> tuple[Piece, ...]:
    """Prompts and lengths, both uniform in their ranges."""
    rng = random.Random(seed)
    return tuple(Piece(*_prompt(tokenizer, rng), tokens=rng.randint(*WRITTEN_TOKENS), seed=i) for i in range(requests))


def _prompt(tokenizer: PreTrainedTokenizerBase, rng: random.Random) -> tuple[str, tuple[int, ...]]:
    wanted = rng.randint(*PROMPT_TOKENS)
    while True:
        words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 3)))]
        while len(ids := render_prompt(tokenizer, " ".join(words))) < wanted:
            words.append("".join(rng.choices(SYLLABLES, k=rng.randint(1, 3))))
        if len(ids) == wanted:
            return " ".join(words), tuple(ids)
