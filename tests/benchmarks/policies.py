"""What benchmarks of the policy server run: a registry of policies whose weights are random, and requests for them.

Each is a Llama shape of 3.7 million parameters: 4 layers, 256 wide, 2048 tokens. So that a completion is as long as it
is asked to be, PAD and EOS have an embedding of zeros while the last norm makes the logits of all others wide: EOS is
then drawn once in 10^9 tokens or rarer.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, cast

import torch
from attune.api.policy.v1 import policy_pb2
from attune.api.types.v1 import generations_pb2, prompts_pb2
from attune.domain.revisions import STABLE, ModelName
from attune.modeling.loading import LoadedPolicy, PolicyShape, load_policy, new_policy, save_policy
from attune.modeling.tokenizer import train_tokenizer
from attune.platform.registry.registry import Registry

MODEL = ModelName("policies", "bench")
SHAPE = PolicyShape(family="llama", layers=4, width=256, heads=4, mlp_width=688, context=256)
VOCABULARY = 2048
LOGIT_WIDTH = 6.0
SYLLABLES = [a + b for a in "bdfghklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "el", "or")]
WORDS, WRITTEN_TOKENS = (3, 12), (16, 128)


class Policies:
    """`count` revisions of one policy in a registry under `folder`, the first of them stable."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self.registry = Registry(folder / "registry")
        self._epoch = self.registry.take_epoch([MODEL], "bench")
        tokenizer = _tokenizer()
        for number in range(1, count + 1):
            model = new_policy(SHAPE, tokenizer, seed=number)
            trunk = cast(Any, model.base_model)
            with torch.no_grad():
                trunk.embed_tokens.weight[[tokenizer.pad_token_id, tokenizer.eos_token_id]] = 0.0
                trunk.norm.weight.fill_(LOGIT_WIDTH)
            save_policy(model, tokenizer, self._saved(number))
            self.registry.publish(MODEL.revision(number), self._saved(number), epoch=self._epoch)
        self.numbers = range(1, count + 1)
        self.promote(1)

    def promote(self, number: int) -> None:
        """Moves stable, as a trainer does."""
        self.registry.move_alias(MODEL, STABLE, number, epoch=self._epoch, actor="bench", reason="")

    def load(self) -> dict[str, LoadedPolicy]:
        """All of them, by full name."""
        return {str(MODEL.revision(number)): load_policy(self._saved(number)) for number in self.numbers}

    def _saved(self, number: int) -> Path:
        return self._folder / "saved" / str(number)


def _tokenizer() -> Any:
    rng = random.Random(0)
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(2, 4))) for _ in range(4000)]
    return train_tokenizer([" ".join(words[i : i + 20]) for i in range(0, len(words), 20)] * 2, VOCABULARY)


def request(rng: random.Random, tokens: int | None = None) -> policy_pb2.GenerateRequest:
    """A prompt of a few words and a length of 16 to 128 tokens, unless one is given, both uniform."""
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 3))) for _ in range(rng.randint(*WORDS))]
    sampling = generations_pb2.SamplingParameters(
        max_tokens=tokens or rng.randint(*WRITTEN_TOKENS), seed=rng.getrandbits(32)
    )
    return policy_pb2.GenerateRequest(
        app_id="bench", prompt=prompts_pb2.Prompt(text=" ".join(words)), sampling=sampling
    )
