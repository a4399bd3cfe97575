"""GRPO and RLOO equal TRL's on the tensors of real steps of its trainers; where definitions differ, by how much."""

from __future__ import annotations

import pytest
import torch
from attune.trainer import ppo
from attune.trainer.advantages import GroupRelative, LeaveOneOut
from attune.trainer.diagnostics import ratio_figures
from support.trl_groups import BETA, Loss, Steps, steps_of
from torch import Tensor

pytestmark = [pytest.mark.trl, pytest.mark.filterwarnings("ignore")]  # warnings of what TRL uses

AGGREGATIONS = {"dapo": "token-mean", "grpo": "seq-mean-token-mean"}
"""TRL's names of the loss, and ours."""


@pytest.fixture(scope="module", params=sorted(AGGREGATIONS))
def grpo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Steps]:
    return request.param, steps_of("grpo", tmp_path_factory.mktemp("grpo"), loss_type=request.param)


@pytest.fixture(scope="module")
def rloo(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    return steps_of("rloo", tmp_path_factory.mktemp("rloo"))


def same_gradients(loss: Tensor, theirs: Loss) -> None:
    ours = torch.autograd.grad(loss, list(theirs.model.parameters()))
    scale = max(g.abs().max().item() for g in theirs.gradients)
    for mine, other in zip(ours, theirs.gradients, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4 * scale, rtol=1e-3)


def of_responses(advantages: Tensor, mask: Tensor) -> Tensor:
    """(B, T) that is one number a row -> (B,)."""
    return advantages.sum(1) / mask.sum(1)


def test_completions_differ_in_length_and_score(grpo: tuple[str, Steps]) -> None:
    """Otherwise little is compared below."""
    _, steps = grpo
    assert len(steps.generations) == 2
    assert len(steps.losses) == 4
    assert any(len(set(loss.mask.sum(1).tolist())) > 1 for loss in steps.losses)


def test_group_relative_advantages(grpo: tuple[str, Steps]) -> None:
    _, steps = grpo
    for number, (_, found) in enumerate(steps.generations):
        batch = steps.measured(number)
        ours, _ = GroupRelative()(batch, BETA)
        torch.testing.assert_close(of_responses(ours, batch.mask), found["advantages"], atol=1e-5, rtol=1e-5)


def test_grpo_loss_with_the_kl_that_trl_has(grpo: tuple[str, Steps]) -> None:
    """TRL weighs k3 with the ratio. The second pass over a batch has ratios other than 1."""
    name, steps = grpo
    for theirs in steps.losses:
        now, old, ref = theirs.logprobs(), theirs.of_inputs("old"), theirs.of_inputs("ref")
        kl = ppo.kl_k3(ppo.masked(now, theirs.mask), ref) * ppo.log_ratio(now, old, theirs.mask).exp()
        loss = ppo.policy_loss(now, old, theirs.advantages, theirs.mask, aggregation=AGGREGATIONS[name])
        loss = loss + BETA * ppo.aggregate(kl, theirs.mask, AGGREGATIONS[name])
        assert loss.item() == pytest.approx(theirs.value, rel=1e-5, abs=1e-5)
        same_gradients(loss, theirs)


def test_our_grpo_loss_has_the_same_gradient_on_fresh_completions(grpo: tuple[str, Steps]) -> None:
    """k2 where TRL has k3 times the ratio: other values, and both the gradient of the reverse KL."""
    name, steps = grpo
    for theirs in steps.losses[::2]:
        now, ref = theirs.logprobs(), theirs.of_inputs("ref")
        loss = ppo.policy_loss(now, now, theirs.advantages, theirs.mask, aggregation=AGGREGATIONS[name])
        kl = ppo.kl_loss(now, ref, theirs.mask, AGGREGATIONS[name])
        assert (loss + BETA * kl).item() != pytest.approx(theirs.value, abs=1e-4)
        same_gradients(loss + BETA * kl, theirs)


def test_without_the_ratio_the_kl_is_k3(tmp_path) -> None:
    theirs = steps_of("grpo", tmp_path, loss_type="dapo", use_bias_correction_kl=False).losses[1]
    now, old, ref = theirs.logprobs(), theirs.of_inputs("old"), theirs.of_inputs("ref")
    kl = ppo.aggregate(ppo.kl_k3(ppo.masked(now, theirs.mask), ref), theirs.mask, "token-mean")
    loss = ppo.policy_loss(now, old, theirs.advantages, theirs.mask) + BETA * kl
    assert loss.item() == pytest.approx(theirs.value, rel=1e-5, abs=1e-5)
    same_gradients(loss, theirs)


def test_grpo_left_its_clip_range(grpo: tuple[str, Steps]) -> None:
    """Otherwise the losses above were compared where they are easy."""
    _, steps = grpo
    theirs = steps.losses[1]
    figures = ratio_figures(theirs.logprobs(), theirs.of_inputs("old"), theirs.advantages, theirs.mask)
    assert figures["clip_fraction"] > 0.05


def test_leave_one_out_advantages(rloo: Steps) -> None:
    for number, (_, found) in enumerate(rloo.generations):
        batch = rloo.measured(number)
        ours, _ = LeaveOneOut()(batch, BETA)
        torch.testing.assert_close(of_responses(ours, batch.mask), found["advantages"], atol=2e-4, rtol=1e-4)


def test_rloo_gradient_on_fresh_completions(rloo: Steps) -> None:
    """The ratio is TRL's of whole responses and ours of tokens: on fresh completions both have the same gradient."""
    for theirs in rloo.losses[::2]:
        now = theirs.logprobs()
        loss = ppo.policy_loss(now, now, theirs.advantages, theirs.mask, aggregation="seq-mean-token-sum")
        same_gradients(loss, theirs)


def test_rloo_loss_weighs_with_the_length_as_a_figure(rloo: Steps) -> None:
    theirs = rloo.losses[0]
    lengths, advantages = theirs.mask.sum(1), theirs.inputs["advantages"]
    now = theirs.logprobs().detach()
    loss = ppo.policy_loss(now, now, theirs.advantages, theirs.mask, aggregation="seq-mean-token-sum")
    assert theirs.value == pytest.approx(-advantages.mean().item(), abs=1e-5)
    assert loss.item() == pytest.approx(-(advantages * lengths).mean().item(), abs=1e-5)
