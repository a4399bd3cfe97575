"""PPO's terms against numbers worked by hand, against slow literal versions, and against the facts they rest on."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from attune.trainer import ppo
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

Rows = list[list[float]]

LOGP, REF = [[-1.0, -0.5, -2.0, -0.1]], [[-1.2, -0.4, -1.5, -0.1]]
VALUES = [[0.2, 0.3, 0.1, 0.4]]
ADVANTAGES = [[0.712487, 0.655250, 0.895000, 0.600000]]


def t(rows: Rows | list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def full(rows: Rows) -> Tensor:
    return torch.ones(len(rows), len(rows[0]), dtype=torch.bool)


def near(tensor: Tensor, expected: Rows | list[float], tolerance: float = 1e-5) -> bool:
    return torch.allclose(tensor, t(expected), atol=tolerance, rtol=0)


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def random_batch(seed: int, batch: int = 5, length: int = 7) -> tuple[dict[str, Tensor], Tensor]:
    """Plausible tensors of a PPO batch, and a mask with holes and padding on both sides, no row empty."""
    mask = torch.rand(batch, length, generator=torch.Generator().manual_seed(seed)) < 0.6
    mask[:, length // 2] = True
    logprobs = -noise(batch, length, seed=seed + 1).abs()
    tensors = {
        "logprobs": logprobs,
        "old_logprobs": logprobs + 0.3 * noise(batch, length, seed=seed + 2),
        "ref_logprobs": logprobs + 0.5 * noise(batch, length, seed=seed + 3),
        "engine_logprobs": logprobs + 0.4 * noise(batch, length, seed=seed + 4),
        "advantages": noise(batch, length, seed=seed + 5),
        "values": noise(batch, length, seed=seed + 6),
        "old_values": noise(batch, length, seed=seed + 7),
        "returns": noise(batch, length, seed=seed + 8),
        "scores": noise(batch, seed=seed + 9),
    }
    return tensors, mask


# Golden values


def test_shaped_rewards_and_gae_golden_values() -> None:
    rewards = ppo.shaped_rewards(torch.tensor([1.0]), t(LOGP), t(REF), full(LOGP), beta=0.05)
    assert near(rewards, [[-0.01, 0.005, 0.025, 1.0]])
    # A_4 = 1 - 0.4 = 0.6; A_3 = 0.025 + 0.4 - 0.1 + 0.95 * 0.6 = 0.895; and so on backward
    advantages, returns = ppo.gae(rewards, t(VALUES), full(VALUES), gamma=1.0, lam=0.95)
    assert near(advantages, ADVANTAGES, 1e-6)
    assert near(returns, [[0.912487, 0.955250, 0.995000, 1.000000]], 1e-6)


def test_whitening_golden_values() -> None:
    biased = ppo.whiten(t(ADVANTAGES), full(ADVANTAGES))
    unbiased = ppo.whiten(t(ADVANTAGES), full(ADVANTAGES), biased=False)
    assert near(biased, [[-0.028825, -0.544921, 1.616842, -1.043096]], 5e-6)
    assert near(unbiased, [[-0.024964, -0.471915, 1.400226, -0.903348]], 5e-6)


@pytest.mark.parametrize(
    ("ratio", "advantage", "dual_clip", "expected"),
    [
        (1.5, 1.0, None, -1.2),
        (1.5, -1.0, None, 1.5),
        (0.5, 1.0, None, -0.5),
        (0.5, -1.0, None, 0.8),
        (5.0, -1.0, None, 5.0),
        (5.0, -1.0, 3.0, 3.0),
        (5.0, 1.0, 3.0, -1.2),
    ],
)
def test_policy_loss_golden_values(ratio: float, advantage: float, dual_clip: float | None, expected: float) -> None:
    loss = ppo.policy_loss(t([[math.log(ratio)]]), t([[0.0]]), t([[advantage]]), full([[0.0]]), dual_clip=dual_clip)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("value", "expected"), [(0.9, 0.045), (0.6, 0.080)])
def test_value_loss_golden_values(value: float, expected: float) -> None:
    # 0.9 is clipped to 0.7: 0.5 * 0.3^2; 0.6 lies inside: 0.5 * 0.4^2
    loss = ppo.value_loss(t([[value]]), t([[0.5]]), t([[1.0]]), full([[0.0]]), eps_v=0.2)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [("token-mean", 0.28), ("seq-mean-token-mean", 0.55), ("seq-mean-token-sum", 1.4)],
)
def test_aggregation_golden_values(aggregation: ppo.Aggregation, expected: float) -> None:
    loss = torch.full((2, 8), 0.1)
    loss[0, :2] = 1.0
    mask = full([[0.0] * 8] * 2)
    mask[0, 2:] = False
    assert ppo.aggregate(loss, mask, aggregation).item() == pytest.approx(expected, abs=1e-6)


def test_token_sum_over_a_constant() -> None:
    loss = t([[1.0, 2.0]])
    assert ppo.aggregate(loss, full([[0.0] * 2]), "token-sum-over-constant", count=4.0).item() == pytest.approx(0.75)
    with pytest.raises(ValueError, match="constant"):
        ppo.aggregate(loss, full([[0.0] * 2]), "token-sum-over-constant")


# Slow literal versions


def literal_gae(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    """A_t as the sum over k of (gamma lam)^k delta_{t+k}, straight from the definition."""
    after = [*values[1:], 0.0]
    deltas = [r + gamma * v1 - v0 for r, v0, v1 in zip(rewards, values, after, strict=True)]
    return [sum((gamma * lam) ** k * d for k, d in enumerate(deltas[i:])) for i in range(len(deltas))]


def picked(x: Tensor, mask: Tensor, row: int) -> list[float]:
    return x[row][mask[row]].tolist()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 1.0), (0.97, 0.0)])
def test_gae_equals_the_literal_sum_over_the_true_positions(seed: int, gamma: float, lam: float) -> None:
    batch, mask = random_batch(seed)
    advantages, returns = ppo.gae(batch["returns"], batch["values"], mask, gamma, lam)
    for row in range(len(mask)):
        values = picked(batch["values"], mask, row)
        expected = literal_gae(picked(batch["returns"], mask, row), values, gamma, lam)
        assert picked(advantages, mask, row) == pytest.approx(expected, abs=1e-5)
        assert picked(returns, mask, row) == pytest.approx(
            [a + v for a, v in zip(expected, values, strict=True)], abs=1e-5
        )
    assert torch.all(advantages[~mask] == 0)
    assert torch.all(returns[~mask] == 0)


@pytest.mark.parametrize("seed", range(5))
def test_shaped_rewards_equal_the_literal_version(seed: int) -> None:
    batch, mask = random_batch(seed)
    rewards = ppo.shaped_rewards(batch["scores"], batch["logprobs"], batch["ref_logprobs"], mask, beta=0.3)
    for row in range(len(mask)):
        positions = [i for i in range(mask.shape[1]) if mask[row, i]]
        for i in range(mask.shape[1]):
            kl = (batch["logprobs"][row, i] - batch["ref_logprobs"][row, i]).item()
            expected = -0.3 * kl * (i in positions) + batch["scores"][row].item() * (i == positions[-1])
            assert rewards[row, i].item() == pytest.approx(expected, abs=1e-5)


def literal_policy_term(logp: float, old: float, engine: float, adv: float, dual_clip: float, cap: float) -> float:
    ratio = math.exp(max(-20.0, min(20.0, logp - old)))
    loss = max(-adv * ratio, -adv * max(0.9, min(1.3, ratio)))
    if adv < 0:
        loss = min(loss, -adv * dual_clip)
    return loss * min(math.exp(old - engine), cap)


@pytest.mark.parametrize("seed", range(5))
def test_policy_loss_equals_the_literal_version(seed: int) -> None:
    batch, mask = random_batch(seed)
    weights = ppo.importance_weights(batch["old_logprobs"], batch["engine_logprobs"], mask, cap=1.2)
    loss = ppo.policy_loss(
        batch["logprobs"],
        batch["old_logprobs"],
        batch["advantages"],
        mask,
        eps_low=0.1,
        eps_high=0.3,
        dual_clip=1.4,
        weights=weights,
    )
    columns = (batch[k][mask].tolist() for k in ("logprobs", "old_logprobs", "engine_logprobs", "advantages"))
    terms = [literal_policy_term(*token, dual_clip=1.4, cap=1.2) for token in zip(*columns, strict=True)]
    assert loss.item() == pytest.approx(sum(terms) / len(terms), abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_value_loss_equals_the_literal_version(seed: int) -> None:
    batch, mask = random_batch(seed)
    loss = ppo.value_loss(batch["values"], batch["old_values"], batch["returns"], mask, eps_v=0.4)
    columns = (batch[k][mask].tolist() for k in ("values", "old_values", "returns"))
    terms = [
        0.5 * max((v - r) ** 2, (max(o - 0.4, min(o + 0.4, v)) - r) ** 2) for v, o, r in zip(*columns, strict=True)
    ]
    assert loss.item() == pytest.approx(sum(terms) / len(terms), abs=1e-5)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=20))
def test_whitening_equals_the_literal_version(xs: list[float]) -> None:
    mean = sum(xs) / len(xs)
    variance = sum((x - mean) ** 2 for x in xs) / len(xs)
    expected = [(x - mean) / math.sqrt(variance + 1e-8) for x in xs]
    whitened = ppo.whiten(t([xs]), full([xs]))[0].tolist()
    # Where nothing varies the quotient is rounding error over 1e-4.
    assert whitened == pytest.approx(expected, abs=1e-3 if variance > 1e-3 else 0.2)


def test_whitening_without_shift_keeps_the_mean() -> None:
    x = t([[1.0, 2.0, 6.0]])
    assert ppo.whiten(x, full([[0.0] * 3]), shift_mean=False).mean().item() == pytest.approx(3.0, abs=1e-6)


# KL estimators: facts checked without sampling, over a whole small distribution


def two_distributions() -> tuple[Tensor, Tensor]:
    return noise(10, seed=1).requires_grad_(), torch.log_softmax(noise(10, seed=2), -1)


def test_k1_and_k3_are_unbiased_and_k2_is_not() -> None:
    logits, ref = two_distributions()
    logp = torch.log_softmax(logits, -1)
    kl = (logp.exp() * (logp - ref)).sum()
    assert torch.allclose((logp.exp() * ppo.kl_k1(logp, ref)).sum(), kl)
    assert torch.allclose((logp.exp() * ppo.kl_k3(logp, ref)).sum(), kl, atol=1e-5)
    assert not torch.allclose((logp.exp() * ppo.kl_k2(logp, ref)).sum(), kl, atol=1e-2)


def expected_loss_gradient(estimator: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """E over tokens of the estimator's gradient: each token's weight is a constant, as when tokens were sampled."""
    logits, ref = two_distributions()
    logp = torch.log_softmax(logits, -1)
    (logp.exp().detach() * estimator(logp, ref)).sum().backward()
    return logits.grad


def test_k2_as_a_loss_has_the_gradient_of_the_reverse_kl() -> None:
    logits, ref = two_distributions()
    logp = torch.log_softmax(logits, -1)
    (logp.exp() * (logp - ref)).sum().backward()
    assert torch.allclose(expected_loss_gradient(ppo.kl_k2), logits.grad, atol=1e-6)


def test_k3_as_a_loss_has_the_gradient_of_the_forward_kl_and_k1_none() -> None:
    logits, ref = two_distributions()
    (ref.exp() * (ref - torch.log_softmax(logits, -1))).sum().backward()
    assert torch.allclose(expected_loss_gradient(ppo.kl_k3), logits.grad, atol=1e-6)
    assert torch.allclose(expected_loss_gradient(ppo.kl_k1), torch.zeros(10), atol=1e-6)


def test_k3_stays_finite_far_from_the_reference() -> None:
    assert torch.isfinite(ppo.kl_k3(t([[-1000.0, 0.0]]), t([[0.0, -1000.0]]))).all()


def test_kl_is_zero_for_equal_policies() -> None:
    logp, mask = t(LOGP), full(LOGP)
    assert ppo.sequence_kl(logp, logp, mask).item() == 0.0
    assert ppo.kl_loss(logp, logp, mask).item() == 0.0


def test_sequence_kl_sums_over_tokens_and_averages_over_responses() -> None:
    mask = torch.tensor([[True, True, False], [True, True, True]])
    logp, ref = t([[1.0, 2.0, 9.0], [1.0, 1.0, 1.0]]), torch.zeros(2, 3)
    assert ppo.sequence_kl(logp, ref, mask).item() == pytest.approx((3.0 + 3.0) / 2)


def test_next_token_kl_is_the_expectation_of_k1_and_varies_less() -> None:
    torch.manual_seed(0)
    logits, ref_logits = torch.randn(1, 50), torch.randn(1, 50)
    p, logp, ref = logits.softmax(-1)[0], logits.log_softmax(-1)[0], ref_logits.log_softmax(-1)[0]
    exact = ppo.next_token_kl(logits, ref_logits)
    assert exact.shape == (1,)
    assert exact.item() == pytest.approx((p * (logp - ref)).sum().item(), rel=1e-5)
    drawn = torch.multinomial(p, 4000, replacement=True)
    k1 = ppo.kl_k1(logp[drawn], ref[drawn])
    assert k1.mean().item() == pytest.approx(exact.item(), abs=4 * k1.std().item() / 4000**0.5)
    assert k1.std() > 0.5


def test_next_token_kl_takes_the_temperature() -> None:
    logits, ref_logits = torch.tensor([[0.0, 2.0]]), torch.tensor([[2.0, 0.0]])
    assert ppo.next_token_kl(logits, ref_logits, 2.0).item() == pytest.approx(
        ppo.next_token_kl(logits / 2, ref_logits / 2).item()
    )
    assert ppo.next_token_kl(logits, logits, 0.5).item() == 0.0


def test_kl_loss_is_the_mean_of_half_squares_and_spares_the_reference() -> None:
    logp, ref = t(LOGP).requires_grad_(), t(REF).requires_grad_()
    loss = ppo.kl_loss(logp, ref, full(LOGP))
    loss.backward()
    assert loss.item() == pytest.approx(0.5 * (0.04 + 0.01 + 0.25 + 0.0) / 4, abs=1e-6)
    assert near(logp.grad, [[0.05, -0.025, -0.125, 0.0]])
    assert ref.grad is None


# The first pass over fresh rollouts


def test_the_first_pass_has_ratio_exactly_one_and_the_policy_gradient() -> None:
    batch, mask = random_batch(3)
    logprobs = batch["logprobs"].requires_grad_()
    loss = ppo.policy_loss(logprobs, logprobs.detach(), batch["advantages"], mask)
    loss.backward()
    assert torch.equal(ppo.log_ratio(logprobs, logprobs.detach(), mask).exp(), torch.ones(mask.shape))
    expected = torch.where(mask, -batch["advantages"], 0.0) / mask.sum()
    assert torch.allclose(logprobs.grad, expected, atol=1e-7)


def test_no_gradient_where_the_clip_holds() -> None:
    logprobs = t([[math.log(1.5), math.log(0.5), math.log(1.1)]]).requires_grad_()
    ppo.policy_loss(logprobs, torch.zeros(1, 3), t([[1.0, -1.0, 1.0]]), full([[0.0] * 3])).backward()
    assert near(logprobs.grad, [[0.0, 0.0, -1.1 / 3]], 1e-6)


def test_the_log_ratio_is_clamped() -> None:
    loss = ppo.policy_loss(t([[500.0]]), t([[-500.0]]), t([[-1.0]]), full([[0.0]]))
    assert loss.item() == pytest.approx(math.exp(20.0), rel=1e-5)


def test_importance_weights_are_capped_and_carry_no_gradient() -> None:
    old, engine = t([[0.0, 0.0]]).requires_grad_(), t([[-3.0, math.log(2.0)]])
    weights = ppo.importance_weights(old, engine, full([[0.0] * 2]), cap=2.0)
    assert near(weights, [[2.0, 0.5]])
    assert not weights.requires_grad


def test_a_dual_clip_that_would_bite_inside_the_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="dual_clip"):
        ppo.policy_loss(t([[0.0]]), t([[0.0]]), t([[1.0]]), full([[0.0]]), dual_clip=1.0)


# Terminal placement and missing EOS


def test_the_score_stands_on_the_last_real_token_whatever_the_padding() -> None:
    mask = torch.tensor([[True, True, False], [False, True, True], [True, False, True], [False, False, False]])
    zeros = torch.zeros(4, 3)
    rewards = ppo.shaped_rewards(torch.tensor([1.0, 2.0, 3.0, 4.0]), zeros, zeros, mask, beta=0.1)
    assert near(rewards, [[0, 1, 0], [0, 0, 2], [0, 0, 3], [0, 0, 0]])


@pytest.mark.parametrize(
    ("policy", "value", "expected"),
    [("score", 1.0, [0.5, 0.7]), ("penalty", 1.0, [0.5, -0.3]), ("replace", -1.0, [0.5, -1.0])],
)
def test_missing_eos_policies(policy: ppo.MissingEos, value: float, expected: list[float]) -> None:
    scores, ended, zeros = torch.tensor([0.5, 0.7]), torch.tensor([True, False]), torch.zeros(2, 2)
    assert near(ppo.missing_eos_scores(scores, ended, policy, value), expected)
    rewards = ppo.shaped_rewards(
        scores, zeros, zeros, full([[0.0] * 2] * 2), 0.1, ended=ended, missing_eos=policy, missing_eos_value=value
    )
    assert near(rewards[:, 1], expected)


def test_a_missing_eos_policy_needs_to_know_which_responses_ended() -> None:
    zeros = torch.zeros(1, 1)
    with pytest.raises(ValueError, match="ended"):
        ppo.shaped_rewards(torch.zeros(1), zeros, zeros, full([[0.0]]), 0.1, missing_eos="penalty")


# Padding, garbage and micro-batches


def all_terms(batch: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
    rewards = ppo.shaped_rewards(batch["scores"], batch["logprobs"], batch["ref_logprobs"], mask, 0.1)
    advantages, returns = ppo.gae(rewards, batch["old_values"], mask)
    weights = torch.exp(batch["old_logprobs"] - batch["engine_logprobs"])
    return {
        "rewards": rewards,
        "advantages": advantages,
        "returns": returns,
        "whitened": ppo.whiten(advantages, mask),
        "policy_loss": ppo.policy_loss(
            batch["logprobs"], batch["old_logprobs"], batch["advantages"], mask, dual_clip=3.0, weights=weights
        ),
        "value_loss": ppo.value_loss(batch["values"], batch["old_values"], batch["returns"], mask),
        "kl_loss": ppo.kl_loss(batch["logprobs"], batch["ref_logprobs"], mask),
        "sequence_kl": ppo.sequence_kl(batch["logprobs"], batch["ref_logprobs"], mask),
    }


@pytest.mark.parametrize("garbage", [1e30, float("-inf"), float("nan")])
def test_garbage_outside_the_mask_leaks_into_neither_values_nor_gradients(garbage: float) -> None:
    clean, mask = random_batch(11)
    spoiled = {k: torch.where(mask, x, garbage) if x.dim() == 2 else x.clone() for k, x in clean.items()}
    for batch in (clean, spoiled):
        batch["logprobs"].requires_grad_()
        batch["values"].requires_grad_()
    a, b = all_terms(clean, mask), all_terms(spoiled, mask)
    for name in a:
        assert torch.equal(a[name], b[name]), name
    for terms in (a, b):
        (terms["policy_loss"] + terms["value_loss"] + terms["kl_loss"]).backward()
    for name in ("logprobs", "values"):
        assert torch.equal(clean[name].grad, spoiled[name].grad), name


def test_padding_on_either_side_changes_nothing() -> None:
    batch, mask = random_batch(12)
    plain = all_terms(batch, mask)
    for side in ((2, 0), (0, 3), (1, 2)):
        padded = {k: torch.nn.functional.pad(x, side, value=7.0) if x.dim() == 2 else x for k, x in batch.items()}
        terms = all_terms(padded, torch.nn.functional.pad(mask, side, value=False))
        for name, expected in plain.items():
            found = terms[name]
            if found.dim() == 2:
                found = found[:, side[0] : side[0] + mask.shape[1]]
            assert torch.allclose(found, expected, atol=1e-6), name


@pytest.mark.parametrize("aggregation", ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum"])
def test_micro_batches_with_the_global_count_add_up_to_the_whole(aggregation: ppo.Aggregation) -> None:
    batch, mask = random_batch(13)
    mask[1] = False  # a response without tokens counts nowhere
    count = ppo.global_count(mask, aggregation)

    def loss(rows: slice, denominator: int | None) -> Tensor:
        return ppo.policy_loss(
            batch["logprobs"][rows],
            batch["old_logprobs"][rows],
            batch["advantages"][rows],
            mask[rows],
            aggregation=aggregation,
            count=denominator,
        )

    whole = loss(slice(None), None)
    parts = loss(slice(0, 1), count) + loss(slice(1, 2), count) + loss(slice(2, 5), count)
    naive = (loss(slice(0, 1), None) + loss(slice(2, 5), None)) / 2
    assert torch.allclose(whole, parts, atol=1e-6)
    assert not torch.allclose(whole, naive, atol=1e-3)


def test_an_empty_mask_gives_zero() -> None:
    assert ppo.masked_mean(t([[float("nan")]]), torch.zeros(1, 1, dtype=torch.bool)).item() == 0.0
