"""One update of TRL's own PPOTrainer on tiny models, and every tensor that it computed on the way.

`train` is one long function. Its local variables are read where it calls `log`, at the end of an update; what it has
deleted by then, the outputs of the models in training, is taken down by hooks. Nothing of TRL is changed.
"""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from attune.modeling.reward_model import RewardModel
from datasets import Dataset
from support.learning import tiny_policy
from torch import Tensor, nn
from transformers import LlamaForSequenceClassification, PreTrainedModel
from trl.experimental.ppo import PPOConfig, PPOTrainer

RESPONSE = 12
PROMPT_LENGTHS = (3, 5, 5, 2, 6, 4, 3, 6)
END_WEIGHT = 8.0
"""So much wider is the output row of EOS than at first, that some responses end early and some do not."""


@dataclass(frozen=True)
class Pass:
    """A training forward: which rollouts, their raw logits (b, P + T, V) and values (b, P + T)."""

    rows: Tensor
    logits: Tensor
    values: Tensor


@dataclass(frozen=True)
class Update:
    """What an update of TRL computed: its local variables, its training passes in order, and the models before it."""

    found: dict[str, Any]
    passes: list[Pass]
    ref_logits: Tensor
    actor: PreTrainedModel
    reference: PreTrainedModel
    critic: RewardModel
    reward: RewardModel
    after: dict[str, Tensor]
    pad: int
    config: PPOConfig

    def __getitem__(self, name: str) -> Any:
        return self.found[name]

    @property
    def query_mask(self) -> Tensor:
        """(B, P): the real tokens of prompts, which are padded on the left."""
        return self["queries"] != self.pad

    @property
    def mask(self) -> Tensor:
        """(B, T): the response tokens, EOS included."""
        return ~self["padding_mask"]

    @property
    def mask_p1(self) -> Tensor:
        """(B, T): the same and one more position after EOS, where TRL puts the score."""
        return ~self["padding_mask_p1"]


class _Watched(PPOTrainer):
    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        self.found = dict(sys._getframe(1).f_locals)
        super().log(logs, *args, **kwargs)


def one_update(folder: Path, *, ends: bool = True, **settings: Any) -> Update:
    """Lets TRL take one update on eight prompts; `ends`: whether EOS ends a response. `settings` are PPOConfig's."""
    policy, reference = tiny_policy(0), tiny_policy(3)
    tokenizer = policy.tokenizer
    tokenizer.padding_side = "left"
    with torch.no_grad():
        for model in (policy.model, reference.model):
            model.get_output_embeddings().weight[tokenizer.eos_token_id] *= END_WEIGHT if ends else 0.0
    value, reward = scorer(policy.model, 1), scorer(policy.model, 2)
    before = [copy.deepcopy(model) for model in (policy.model, reference.model, value, reward)]
    config = PPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=len(PROMPT_LENGTHS) // settings.get("gradient_accumulation_steps", 1),
        total_episodes=len(PROMPT_LENGTHS),
        num_mini_batches=1,
        response_length=RESPONSE,
        stop_token="eos",
        num_sample_generations=0,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        **({"seed": 7} | settings),
    )
    texts = [[(11 * n + i) % 250 + 5 for i in range(n)] for n in PROMPT_LENGTHS]
    prompts = Dataset.from_dict({"input_ids": texts * 2})  # twice: at the end of its data TRL steps on each micro-batch
    trainer = _Watched(config, tokenizer, policy.model, reference.model, reward, prompts, value, eval_dataset=prompts)
    outputs: list[tuple[Tensor, Tensor, Tensor]] = []
    ref_logits: list[Tensor] = []
    hooks = [
        trainer.model.register_forward_hook(
            lambda module, args, kwargs, out: outputs.append(
                (kwargs["input_ids"].clone(), out[0].logits.detach().clone(), out[1].detach().clone().squeeze(-1))
            ),
            with_kwargs=True,
        ),
        trainer.ref_model.register_forward_hook(
            lambda module, args, out: ref_logits.append(out.logits.detach().clone())
        ),
    ]
    trainer.train()
    for hook in hooks:
        hook.remove()
    found = trainer.found
    written = torch.where(found["query_responses"] == tokenizer.pad_token_id, 0, found["query_responses"])
    return Update(
        found=found,
        passes=[Pass(_rows_of(ids, written), logits, values) for ids, logits, values in outputs],
        ref_logits=torch.cat(ref_logits),
        actor=before[0],
        reference=before[1],
        critic=as_reward_model(before[2]),
        reward=as_reward_model(before[3]),
        after={name: p.detach().clone() for name, p in trainer.model.named_parameters()},
        pad=int(tokenizer.pad_token_id),
        config=config,
    )


def as_reward_model(model: LlamaForSequenceClassification) -> RewardModel:
    """A sequence classifier of one label as Attune's reward model, with the same weights."""
    ours = RewardModel(copy.deepcopy(model.model))
    with torch.no_grad():
        ours.head.weight.copy_(model.score.weight)
        nn.init.zeros_(ours.head.bias)
    return ours.eval()


def scorer(policy: PreTrainedModel, seed: int) -> LlamaForSequenceClassification:
    """A reward or value model as TRL has them, of the policy's shape."""
    config = copy.deepcopy(policy.config)
    config.num_labels = 1
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForSequenceClassification(config)
        nn.init.normal_(model.score.weight, std=0.5)
    return model


def _rows_of(ids: Tensor, written: Tensor) -> Tensor:
    """Where each row of a shuffled micro-batch stands in the batch."""
    return torch.stack([(written == row).all(1).nonzero()[0, 0] for row in ids])
