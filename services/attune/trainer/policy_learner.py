"""The learner of the policy: actor, critic and reference, and one PPO update of them on a batch of rollouts.

The update reads top to bottom: pad, measure (log-probabilities of actor and reference, values), shape rewards,
advantages, then epochs of minibatches. With one epoch and one minibatch the old log-probabilities are the detached ones
of the training forward: the ratio is exactly 1 and no pass is spent on them.
A non-finite number raises TrainingStopped and the caller restores the last good piece. Text never comes here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from attune.domain.errors import TrainingStopped
from attune.modeling.batching import length_buckets
from attune.modeling.logprobs import align_to_tokens, entropy, response_logprobs
from attune.modeling.precision import Precision, products_in
from attune.modeling.reward_model import RewardModel
from attune.trainer import ppo
from attune.trainer.diagnostics import engine_gap, explained_variance, ratio_figures
from attune.trainer.kl_controller import AdaptiveKL, FixedKL, KLController, controller_from_dict
from attune.trainer.optimizer_state import load_optimizer, save_optimizer
from attune.trainer.rollouts import Rollout


@dataclass(frozen=True)
class PPOSettings:
    """Hyper-parameters of the update; KL in nats a response, learning rates after `warmup_steps`."""

    actor_lr: float = 3e-4
    critic_lr: float = 5e-4
    epochs: int = 1
    minibatches: int = 1
    clip: float = 0.2
    value_clip: float = 0.2
    gamma: float = 1.0
    lam: float = 0.95
    kl_coefficient: float = 0.05
    kl_target: float = 0.0
    kl_horizon: float = 10_000.0
    missing_eos: ppo.MissingEos = "penalty"
    missing_eos_value: float = 1.0
    importance_cap: float = 5.0
    max_grad_norm: float = 1.0
    adam_eps: float = 1e-5
    warmup_steps: int = 4
    temperature: float = 1.0
    tokens_per_micro_batch: int = 2_048
    fused_tokens: int = 16_384
    """Largest batch whose training graph is kept while it is measured."""
    precision: Precision = "float32"
    """Of the matrix products; log-probabilities, losses and weights are float32."""

    def controller(self) -> KLController:
        """Adaptive when a target is set, fixed otherwise."""
        if self.kl_target > 0:
            return AdaptiveKL(self.kl_coefficient, self.kl_target, self.kl_horizon)
        return FixedKL(self.kl_coefficient)


@dataclass
class Part:
    """Some rollouts as one rectangle, padded on the right, and what was measured of them. Per-token tensors (B, T).

    `old_logprobs`, `values`, `ref_logprobs`, `advantages` and `returns` are filled in before any weight changes.
    """

    input_ids: Tensor
    mask: Tensor
    engine_logprobs: Tensor
    scores: Tensor
    ended: Tensor
    old_logprobs: Tensor
    values: Tensor
    ref_logprobs: Tensor
    advantages: Tensor
    returns: Tensor


@dataclass
class Forward:
    """Outputs of actor and critic at the tokens of a part: (B, T), and the mean entropy of its response tokens."""

    logprobs: Tensor
    values: Tensor
    entropy: float


class PolicyLearner:
    """Holds actor, critic, reference and their optimizers. `update` is the only thing that changes weights."""

    def __init__(
        self,
        actor: PreTrainedModel,
        critic: RewardModel,
        reference: PreTrainedModel,
        pad_id: int,
        settings: PPOSettings,
    ) -> None:
        self.actor, self.critic = actor, critic
        for model in (actor, critic):
            model.eval().requires_grad_(True)  # eval: dropout would make the first ratio differ from 1
        self.reference = reference
        reference.eval().requires_grad_(False)
        self.settings = settings
        self.kl = settings.controller()
        self.updates = 0
        self._pad_id = pad_id
        self._device = next(actor.parameters()).device
        self.reset_optimizers()

    def reset_optimizers(self) -> None:
        """Fresh moments: at the start, and after weights that this learner did not train itself."""
        s = self.settings
        self._actor_optimizer = torch.optim.AdamW(self.actor.parameters(), s.actor_lr, eps=s.adam_eps, weight_decay=0.0)
        self._critic_optimizer = torch.optim.AdamW(
            self.critic.parameters(), s.critic_lr, eps=s.adam_eps, weight_decay=0.0
        )

    def update(self, rollouts: Sequence[Rollout], seed: int) -> dict[str, float]:
        """One PPO update on the whole batch; returns its figures. `seed` deals rollouts into minibatches.

        Raises TrainingStopped on a non-finite loss or gradient, before the optimizer takes it in.
        """
        s = self.settings
        groups = [self._parts(group) for group in _dealt(rollouts, s.minibatches, seed)]
        parts = [part for group in groups for part in group]
        # Seen once, the batch needs no pass of its own to be measured: its training forward is that of the old policy.
        is_fused = s.epochs == len(groups) == 1 and sum(part.mask.numel() for part in parts) <= s.fused_tokens
        fused = [self._forward(part) for part in parts] if is_fused else []
        for i, part in enumerate(parts):
            with torch.no_grad():
                measured = fused[i] if is_fused else self._forward(part)
                part.old_logprobs, part.values = measured.logprobs.detach(), measured.values.detach()
                part.ref_logprobs = self._logprobs(self.reference, part)[0]
        figures = self._set_advantages(parts)
        for _ in range(s.epochs):
            for group in groups:
                figures |= self._optimise(group, fused)
        self.kl = self.kl.updated(figures["kl"], len(rollouts))
        self.updates += 1
        return figures

    def sequence_kl(self, rollouts: Sequence[Rollout]) -> float:
        """KL of the actor to the reference in nats a response, at the positions of responses the actor sampled."""
        total = 0.0
        with torch.no_grad():
            for part in self._parts(rollouts):
                before_response = part.mask[:, 1:]
                ours, theirs = (
                    self._logits(model, part)[:, :-1][before_response] for model in (self.actor, self.reference)
                )
                total += ppo.next_token_kl(ours, theirs, self.settings.temperature).sum().item()
        return total / len(rollouts)

    def _set_advantages(self, parts: list[Part]) -> dict[str, float]:
        """Rewards, advantages (whitened over the whole batch) and returns of every part; figures of the rollouts."""
        s = self.settings
        for part in parts:
            rewards = ppo.shaped_rewards(
                part.scores,
                part.old_logprobs,
                part.ref_logprobs,
                part.mask,
                self.kl.coefficient,
                ended=part.ended,
                missing_eos=s.missing_eos,
                missing_eos_value=s.missing_eos_value,
            )
            part.advantages, part.returns = ppo.gae(rewards, part.values, part.mask, s.gamma, s.lam)
        whole = _WholeBatch(parts)
        figures = {
            "kl": ppo.sequence_kl(whole.rows("old_logprobs"), whole.rows("ref_logprobs"), whole.rows("mask")).item(),
            "kl_coefficient": self.kl.coefficient,
            "score_mean": torch.cat([p.scores for p in parts]).mean().item(),
            "ended_fraction": torch.cat([p.ended for p in parts]).float().mean().item(),
            "response_tokens": whole.rows("mask").sum(1).float().mean().item(),
            "explained_variance": explained_variance(whole.rows("values"), whole.rows("returns"), whole.rows("mask")),
        }
        gap = engine_gap(
            whole.rows("old_logprobs"), whole.rows("engine_logprobs"), whole.rows("mask"), s.importance_cap
        )
        whitened = ppo.whiten(whole.rows("advantages"), whole.rows("mask"))
        for part, rows in zip(parts, whitened.split([len(p.scores) for p in parts]), strict=True):
            part.advantages = rows[:, : part.mask.shape[1]]
        return figures | {f"engine_gap_{name}": value for name, value in gap.items()}

    def _optimise(self, group: list[Part], fused: Sequence[Forward]) -> dict[str, float]:
        """One optimizer step of actor and critic on a minibatch, micro-batch by micro-batch, with the global count.

        `fused`: the training forwards of the parts, if they were taken already."""
        s = self.settings
        count = sum(ppo.global_count(part.mask) for part in group)
        self._actor_optimizer.zero_grad(set_to_none=True)
        self._critic_optimizer.zero_grad(set_to_none=True)
        losses: dict[str, float] = {"policy_loss": 0.0, "value_loss": 0.0, "entropy": 0.0}
        ratios: dict[str, float] = {}
        for i, part in enumerate(group):
            now = fused[i] if fused else self._forward(part)
            policy_loss = ppo.policy_loss(
                now.logprobs,
                part.old_logprobs,
                part.advantages,
                part.mask,
                eps_low=s.clip,
                eps_high=s.clip,
                weights=ppo.importance_weights(part.old_logprobs, part.engine_logprobs, part.mask, s.importance_cap),
                count=count,
            )
            value_loss = ppo.value_loss(
                now.values, part.values, part.returns, part.mask, eps_v=s.value_clip, count=count
            )
            (policy_loss + value_loss).backward()
            share = ppo.global_count(part.mask) / count
            for name, value in (("policy_loss", policy_loss.item()), ("value_loss", value_loss.item())):
                losses[name] += value
            losses["entropy"] += now.entropy * share
            for name, value in ratio_figures(now.logprobs, part.old_logprobs, part.advantages, part.mask).items():
                ratios[name] = ratios.get(name, 0.0) + value * share
        return losses | ratios | self._step_optimizers(losses)

    def _step_optimizers(self, losses: dict[str, float]) -> dict[str, float]:
        """Clips and steps both optimizers, unless anything is not finite."""
        s = self.settings
        actor_norm = nn.utils.clip_grad_norm_(self.actor.parameters(), s.max_grad_norm).item()
        critic_norm = nn.utils.clip_grad_norm_(self.critic.parameters(), s.max_grad_norm).item()
        numbers = {**losses, "actor_grad_norm": actor_norm, "critic_grad_norm": critic_norm}
        if bad := [name for name, value in numbers.items() if not math.isfinite(value)]:
            raise TrainingStopped(f"not finite in the PPO update: {', '.join(bad)}")
        warm = min(1.0, (self.updates + 1) / max(s.warmup_steps, 1))
        for optimizer, lr in ((self._actor_optimizer, s.actor_lr), (self._critic_optimizer, s.critic_lr)):
            for parameters in optimizer.param_groups:
                parameters["lr"] = lr * warm
            optimizer.step()
        return {"actor_grad_norm": actor_norm, "critic_grad_norm": critic_norm}

    def _forward(self, part: Part) -> Forward:
        logprobs, mean_entropy = self._logprobs(self.actor, part)
        with products_in(self.settings.precision, self._device):
            values = align_to_tokens(self.critic.values(part.input_ids, torch.ones_like(part.input_ids)))
        return Forward(logprobs, values, mean_entropy)

    def _logprobs(self, model: nn.Module, part: Part) -> tuple[Tensor, float]:
        """Response-aligned log-probabilities (B, T) at the sampling temperature, and the mean entropy."""
        logits, temperature = self._logits(model, part), self.settings.temperature
        with torch.no_grad():
            mean_entropy = entropy(logits[:, :-1][part.mask[:, 1:]], temperature).mean().item()
        return response_logprobs(logits, part.input_ids, part.mask, temperature), mean_entropy

    def _logits(self, model: nn.Module, part: Part) -> Tensor:
        """(B, T, V) float32."""
        # Padded on the right, a causal model needs no attention mask: what comes after cannot be seen.
        with products_in(self.settings.precision, self._device):
            logits: Tensor = model(input_ids=part.input_ids, use_cache=False).logits
        return logits.float()

    def _parts(self, rollouts: Sequence[Rollout]) -> list[Part]:
        """Rollouts of similar length as rectangles of at most `tokens_per_micro_batch` tokens, the padding counted."""
        lengths = [len(r.prompt_ids) + len(r.response_ids) for r in rollouts]
        buckets = length_buckets(lengths, len(rollouts), self.settings.tokens_per_micro_batch)
        return [self._collate([rollouts[i] for i in bucket]) for bucket in buckets]

    def _collate(self, rollouts: Sequence[Rollout]) -> Part:
        width = max(len(r.prompt_ids) + len(r.response_ids) for r in rollouts)
        shape = (len(rollouts), width)
        input_ids = torch.full(shape, self._pad_id, dtype=torch.long)
        mask = torch.zeros(shape, dtype=torch.bool)
        engine_logprobs = torch.zeros(shape)
        for i, r in enumerate(rollouts):
            start, end = len(r.prompt_ids), len(r.prompt_ids) + len(r.response_ids)
            input_ids[i, :end] = torch.tensor(r.prompt_ids + r.response_ids)
            mask[i, start:end] = True
            engine_logprobs[i, start:end] = torch.tensor(r.logprobs)
        scores = torch.tensor([r.score for r in rollouts], dtype=torch.float32)
        ended = torch.tensor([r.ended for r in rollouts])
        columns = [x.to(self._device) for x in (input_ids, mask, engine_logprobs, scores, ended)]
        unmeasured = torch.zeros(0)
        return Part(*columns, *(unmeasured for _ in range(5)))

    # State

    def save(self, folder: Path) -> None:
        """Weights and moments as safetensors, the rest as JSON."""
        for name, model in (("actor", self.actor), ("critic", self.critic)):
            # Tied tensors are written once, under the first of their names, by named_parameters.
            save_file({k: v.detach().contiguous() for k, v in model.named_parameters()}, folder / f"{name}.safetensors")
        save_optimizer(self._actor_optimizer, folder / "actor_optimizer.safetensors")
        save_optimizer(self._critic_optimizer, folder / "critic_optimizer.safetensors")
        (folder / "learner.json").write_text(json.dumps({"updates": self.updates, "kl": self.kl.to_dict()}))

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote, bit for bit."""
        for name, model in (("actor", self.actor), ("critic", self.critic)):
            stored = load_file(folder / f"{name}.safetensors")
            with torch.no_grad():
                for key, parameter in model.named_parameters():
                    parameter.copy_(stored[key])
        load_optimizer(self._actor_optimizer, folder / "actor_optimizer.safetensors")
        load_optimizer(self._critic_optimizer, folder / "critic_optimizer.safetensors")
        state = json.loads((folder / "learner.json").read_text())
        self.updates, self.kl = state["updates"], controller_from_dict(state["kl"])


class _WholeBatch:
    """Per-token tensors of all parts as one, padded to the widest."""

    def __init__(self, parts: list[Part]) -> None:
        self._parts = parts
        self._width = max(part.mask.shape[1] for part in parts)

    def rows(self, name: str) -> Tensor:
        """(all rows, T)."""
        tensors = [getattr(part, name) for part in self._parts]
        return torch.cat([nn.functional.pad(t, (0, self._width - t.shape[1])) for t in tensors])


def _dealt(rollouts: Sequence[Rollout], groups: int, seed: int) -> list[list[Rollout]]:
    """Rollouts dealt at random into at most `groups` minibatches of nearly one size; one group keeps the order."""
    if groups <= 1:
        return [list(rollouts)]
    order = torch.randperm(len(rollouts), generator=torch.Generator().manual_seed(seed)).tolist()
    dealt = [[rollouts[j] for j in order[i::groups]] for i in range(groups)]
    return [group for group in dealt if group]
