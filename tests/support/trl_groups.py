"""Steps of TRL's own GRPOTrainer and RLOOTrainer on a tiny model, and the tensors of each.

The two methods that score completions and that compute the loss are watched from a subclass; nothing of TRL is changed.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from attune.modeling.loading import save_policy
from attune.modeling.logprobs import response_logprobs
from attune.trainer.advantages import Measured
from datasets import Dataset
from support.learning import tiny_policy
from torch import Tensor, nn
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

COMPLETIONS, PROMPTS = 4, ["hello there", "your order 123 is late"]
BETA, TEMPERATURE = 0.3, 0.7
END_WEIGHT = 4.0
"""So much wider is the output row of EOS than at first, that some completions end early and some do not."""


@dataclass(frozen=True)
class Loss:
    """A loss of TRL: what went in, the model it was computed with, its value and its gradients."""

    inputs: dict[str, Any]
    model: nn.Module
    value: float
    gradients: tuple[Tensor, ...]

    @property
    def mask(self) -> Tensor:
        """(B, P + T): true on the tokens of completions."""
        return torch.cat([torch.zeros_like(self.inputs["prompt_mask"]), self.inputs["completion_mask"]], 1).bool()

    def logprobs(self, model: nn.Module | None = None) -> Tensor:
        """By Attune, (B, P + T), with a gradient to the model's weights."""
        return logprobs_of(model or self.model, self.inputs, self.mask)

    def of_inputs(self, whose: str) -> Tensor:
        """TRL's "old" or "ref" log-probabilities as (B, P + T)."""
        found = self.inputs[f"{whose}_per_token_logps"]
        return torch.cat([torch.zeros_like(self.inputs["prompt_mask"], dtype=found.dtype), found], 1)

    @property
    def advantages(self) -> Tensor:
        """TRL's, (B, P + T)."""
        return self.inputs["advantages"].unsqueeze(1).expand(self.mask.shape)


@dataclass
class Steps:
    """What the steps of a run were: each generation's tensors in the order of rewards, and each loss."""

    reference: nn.Module
    rewards: list[Tensor] = field(default_factory=list)
    generations: list[tuple[nn.Module, dict[str, Any]]] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)

    def measured(self, number: int) -> Measured:
        """A generation as Attune's estimators take it."""
        model, found = self.generations[number]
        mask = torch.cat([torch.zeros_like(found["prompt_mask"]), found["completion_mask"]], 1).bool()
        with torch.no_grad():
            logprobs, ref_logprobs = (logprobs_of(m, found, mask) for m in (model, self.reference))
        groups = torch.arange(len(mask)) // COMPLETIONS
        return Measured(self.rewards[number], groups, mask, logprobs, ref_logprobs)


def logprobs_of(model: nn.Module, inputs: dict[str, Any], mask: Tensor) -> Tensor:
    ids, seen = (torch.cat([inputs[f"prompt_{k}"], inputs[f"completion_{k}"]], 1) for k in ("ids", "mask"))
    return response_logprobs(model(input_ids=ids, attention_mask=seen).logits, ids, mask, TEMPERATURE)


def steps_of(algorithm: str, folder: Path, **settings: Any) -> Steps:
    """Two generations and two losses on each; "grpo" or "rloo"."""
    policy = tiny_policy()
    policy.tokenizer.padding_side = "left"
    with torch.no_grad():
        policy.model.get_output_embeddings().weight[policy.tokenizer.eos_token_id] *= END_WEIGHT
    save_policy(policy.model, policy.tokenizer, folder / "model")
    trainer_class, config_class = {"grpo": (GRPOTrainer, GRPOConfig), "rloo": (RLOOTrainer, RLOOConfig)}[algorithm]
    config = config_class(
        output_dir=str(folder / "out"),
        per_device_train_batch_size=COMPLETIONS * len(PROMPTS),
        steps_per_generation=1,
        num_generations=COMPLETIONS,
        num_iterations=2,
        max_steps=4,
        max_completion_length=8,
        temperature=TEMPERATURE,
        beta=BETA,
        learning_rate=0.001,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        seed=3,
        **settings,
    )

    def reward(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        found = [(sum(ids) % 97) / 20 for ids in completion_ids]
        steps.rewards.append(torch.tensor(found))
        return found

    class Watched(trainer_class):  # type: ignore[misc, valid-type]
        def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
            model = copy.deepcopy(self.model)
            found = super()._generate_and_score_completions(inputs)
            steps.generations.append((model, dict(found)))
            return found

        def _compute_loss(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
            before = copy.deepcopy(model)
            loss = super()._compute_loss(model, inputs)
            gradients = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
            steps.losses.append(Loss(dict(inputs), before, loss.item(), gradients))
            return loss

    trainer = Watched(str(folder / "model"), reward, config, train_dataset=Dataset.from_dict({"prompt": PROMPTS * 4}))
    with torch.no_grad():
        for parameter in trainer.ref_model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    steps = Steps(copy.deepcopy(trainer.ref_model))
    trainer.train()
    return steps
