"""The reward model's likelihood against hand arithmetic, and against a literal version that lists every subset."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from attune.trainer.likelihood import (
    CorrectedScore,
    Levels,
    RankedScores,
    RatedScore,
    ordering_accuracy,
    pair_nll,
    preference_nll,
    ranking_nll,
    rating_nll,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

STRICT = ((0,), (1,), (2,), (3,))


def logs(*worths: float) -> Tensor:
    return torch.tensor([math.log(w) for w in worths])


def nll(scores: Tensor, levels: Levels, log_delta: Tensor | None = None) -> float:
    return ranking_nll(scores, [levels], log_delta).item()


def literal_nll(scores: list[float], levels: Levels, deltas: list[float]) -> float:
    """Choice after choice, the normaliser summed over every subset of what remains; deltas[t - 1] is delta_t."""

    def worth(tied: tuple[int, ...]) -> float:
        return deltas[len(tied) - 1] * math.exp(sum(scores[i] for i in tied) / len(tied))

    total, remaining = 0.0, [i for level in levels for i in level]
    for level in levels:
        subsets = [s for t in range(1, len(deltas) + 1) for s in itertools.combinations(remaining, t)]
        total += math.log(sum(map(worth, subsets)) / worth(tuple(level)))
        remaining = [i for i in remaining if i not in level]
    return total


def weak_orders(items: frozenset[int], max_tie_order: int) -> list[Levels]:
    """Every ranking with ties of at most the given order."""
    if not items:
        return [()]
    return [
        (best, *rest)
        for t in range(1, min(max_tie_order, len(items)) + 1)
        for best in itertools.combinations(sorted(items), t)
        for rest in weak_orders(items - set(best), max_tie_order)
    ]


# Golden values


def test_bradley_terry_golden_value() -> None:
    # log(1 + e^-0.5)
    assert pair_nll(torch.tensor(0.5), torch.tensor(0.0)).item() == pytest.approx(0.474077, abs=1e-6)
    assert nll(torch.tensor([0.5, 0.0]), ((0,), (1,))) == pytest.approx(0.474077, abs=1e-6)


def test_plackett_luce_golden_values() -> None:
    scores = torch.tensor([2.0, 1.0, 0.0, -1.0])
    assert nll(scores, STRICT) == pytest.approx(1.161057, abs=1e-6)
    first_choice = nll(scores, STRICT) - nll(scores, STRICT[1:])
    assert first_choice == pytest.approx(0.440190, abs=1e-6)
    pairs = [pair_nll(scores[a], scores[b]).item() for a, b in itertools.combinations(range(4), 2)]
    assert sum(pairs) / 6 == pytest.approx(0.207038, abs=1e-6)


def test_davidson_by_hand() -> None:
    # alpha = 4, 1; delta_2 = 0.5: wins weigh 4 and 1, the tie 0.5 sqrt(4 * 1) = 1; together 6
    scores, log_delta = logs(4, 1), logs(0.5)
    assert nll(scores, ((0,), (1,)), log_delta) == pytest.approx(math.log(6 / 4), abs=1e-6)
    assert nll(scores, ((1,), (0,)), log_delta) == pytest.approx(math.log(6 / 1), abs=1e-6)
    assert nll(scores, ((0, 1),), log_delta) == pytest.approx(math.log(6 / 1), abs=1e-6)


def test_davidson_luce_of_three_by_hand() -> None:
    # alpha = 64, 1, 1; delta_2 = 0.5, delta_3 = 2.
    # Singles 64 + 1 + 1 = 66. Pairs 0.5 (sqrt 64 + sqrt 64 + sqrt 1) = 8.5. All three 2 cbrt(64) = 8. Together 82.5.
    scores, log_delta = logs(64, 1, 1), logs(0.5, 2)
    assert nll(scores, ((0, 1, 2),), log_delta) == pytest.approx(math.log(82.5 / 8), abs=1e-5)
    # {0, 1} tied: 0.5 sqrt(64) = 4; then 2 is alone, certain.
    assert nll(scores, ((0, 1), (2,)), log_delta) == pytest.approx(math.log(82.5 / 4), abs=1e-5)
    # 0 first: 64; then 1 and 2 tie: 0.5 of 1 + 1 + 0.5 = 2.5.
    assert nll(scores, ((0,), (1, 2)), log_delta) == pytest.approx(math.log(82.5 / 64) + math.log(2.5 / 0.5), abs=1e-5)
    # With ties of two at most, the tie of all three leaves the normaliser: 66 + 8.5 = 74.5.
    assert nll(scores, ((0, 1), (2,)), logs(0.5)) == pytest.approx(math.log(74.5 / 4), abs=1e-5)


def test_rating_by_hand() -> None:
    # sigmoid(ln 3) = 3/4: a value of 0.5 costs -(ln 3/4 + ln 1/4) / 2
    values = torch.tensor([1.0, 0.0, 0.5])
    expected = [math.log(4 / 3), math.log(4), (math.log(4 / 3) + math.log(4)) / 2]
    found = rating_nll(torch.full((3,), 1.0 + math.log(3)), values, torch.ones(3))
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


# Against the literal version


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_rankings_equal_the_version_that_lists_every_subset(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 5))
    scores = data.draw(st.lists(st.floats(-6, 6), min_size=size, max_size=size))
    deltas = [1.0, *data.draw(st.lists(st.floats(0.01, 5), max_size=3))]
    levels = data.draw(st.sampled_from(weak_orders(frozenset(range(size)), len(deltas))))
    found = nll(torch.tensor(scores), levels, logs(*deltas[1:]))
    assert found == pytest.approx(literal_nll(scores, levels, deltas), abs=1e-4)


@pytest.mark.parametrize("max_tie_order", [1, 2, 3, 4])
def test_probabilities_of_all_rankings_sum_to_one(max_tie_order: int) -> None:
    orders = weak_orders(frozenset(range(4)), max_tie_order)
    log_delta = logs(0.7, 1.9, 0.4)[: max_tie_order - 1]
    total = ranking_nll(torch.tensor([0.3, -1.2, 2.0, 0.1]), orders, log_delta).neg().exp().sum()
    assert total.item() == pytest.approx(1.0, abs=1e-5)


def test_delta_to_zero_is_plackett_luce() -> None:
    scores = torch.tensor([0.4, 2.0, -1.0, 0.9], requires_grad=True)
    plain = nll(scores, STRICT)
    assert nll(scores, STRICT, torch.full((3,), -40.0)) == pytest.approx(plain, abs=1e-6)
    log_delta = torch.full((3,), float("-inf"), requires_grad=True)
    limit = ranking_nll(scores, [STRICT], log_delta)
    assert limit.item() == pytest.approx(plain, abs=1e-6)
    limit.sum().backward()
    assert torch.isfinite(scores.grad).all()
    assert torch.equal(log_delta.grad, torch.zeros(3))


def test_rankings_of_unequal_length_do_not_touch_each_other() -> None:
    scores = torch.tensor([0.4, 2.0, -1.0, 0.9, 3.0])
    rankings: list[Levels] = [STRICT, ((4,), (0,)), ((2, 1), (3,)), ((3,),)]
    log_delta = logs(0.3, 0.2)
    together = ranking_nll(scores, rankings, log_delta)
    alone = [nll(scores, levels, log_delta) for levels in rankings]
    assert together.tolist() == pytest.approx(alone, abs=1e-6)
    assert together[3].item() == 0.0


def test_scores_move_only_by_their_differences_and_great_scores_stay_finite() -> None:
    scores, levels, log_delta = torch.tensor([1.0, -2.0, 0.5]), ((0, 2), (1,)), logs(0.3)
    assert nll(scores + 7.0, levels, log_delta) == pytest.approx(nll(scores, levels, log_delta), abs=1e-5)
    far = torch.tensor([1e4, -1e4, 0.0], requires_grad=True)
    loss = ranking_nll(far, [((1,), (0, 2))], log_delta).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(far.grad).all()


def test_gradients_equal_finite_differences() -> None:
    scores = torch.tensor([0.3, -0.8, 1.1, 0.2], requires_grad=True)
    log_delta = logs(0.6, 0.2).requires_grad_()
    levels = ((2,), (0, 1), (3,))
    ranking_nll(scores, [levels], log_delta).sum().backward()
    for tensor in (scores, log_delta):
        for i in range(len(tensor)):
            both = []
            for step in (1e-4, -1e-4):
                moved = tensor.detach().clone()
                moved[i] += step
                s, d = (moved, log_delta) if tensor is scores else (scores, moved)
                both.append(literal_nll(s.tolist(), levels, [1.0, *d.exp().tolist()]))
            assert tensor.grad[i].item() == pytest.approx((both[0] - both[1]) / 2e-4, abs=2e-3)


def test_the_prevalence_of_ties_is_learned_from_data() -> None:
    # Among equals a tie of two has probability delta / (2 + delta); a quarter of ties wants delta = 2/3.
    scores, log_delta = torch.zeros(2), torch.zeros(1, requires_grad=True)
    rankings: list[Levels] = [((0, 1),), ((0,), (1,)), ((1,), (0,)), ((0,), (1,))]
    optimizer = torch.optim.SGD([log_delta], lr=1.0)
    for _ in range(200):
        optimizer.zero_grad()
        ranking_nll(scores, rankings, log_delta).mean().backward()
        optimizer.step()
    assert log_delta.exp().item() == pytest.approx(2 / 3, abs=1e-3)


# A batch


def test_a_mixed_batch_gives_each_item_its_own_nll_in_order_and_the_weighted_mean() -> None:
    scores = torch.tensor([1.0, 0.5, -0.5, 2.0], requires_grad=True)
    biases, log_delta = torch.tensor([0.0, 0.7], requires_grad=True), logs(0.4).requires_grad_()
    items = [
        RatedScore(3, 0.8, source=1, weight=0.5),
        RankedScores(((0,), (1, 2)), weight=2.0),
        CorrectedScore(preferred=3, rejected=0),
        RankedScores(((3,), (2,))),
    ]
    batch = preference_nll(scores, items, log_delta, biases)
    p = 1 / (1 + math.exp(-(2.0 - 0.7)))
    flat = scores.tolist()
    expected = [
        -0.8 * math.log(p) - 0.2 * math.log(1 - p),
        literal_nll(flat, ((0,), (1, 2)), [1.0, 0.4]),
        math.log(1 + math.exp(1.0 - 2.0)),
        literal_nll(flat, ((3,), (2,)), [1.0, 0.4]),
    ]
    assert batch.nll.tolist() == pytest.approx(expected, abs=1e-5)
    weights = [0.5, 2.0, 1.0, 1.0]
    mean = sum(w * x for w, x in zip(weights, expected, strict=True)) / sum(weights)
    assert batch.loss.item() == pytest.approx(mean, abs=1e-5)
    batch.loss.backward()
    for tensor in (scores, biases, log_delta):
        assert torch.isfinite(tensor.grad).all()
    assert biases.grad.tolist()[0] == 0.0


def test_micro_batches_with_the_total_weight_add_up() -> None:
    scores = torch.tensor([1.0, 0.5, -0.5])
    items = [RankedScores(((0,), (1,)), 0.3), CorrectedScore(2, 1), RankedScores(((2,), (0,), (1,)), 2.0)]
    whole = preference_nll(scores, items).loss
    parts = sum(preference_nll(scores, [item], total_weight=3.3).loss for item in items)
    assert torch.allclose(whole, torch.as_tensor(parts))


def test_ordering_accuracy_counts_strict_pairs_and_equal_scores_half() -> None:
    # Pairs (0, 1), (0, 2), (1, 3), (2, 3), (0, 3): right, equal, right, right, right; (1, 2) is tied by the person.
    assert ordering_accuracy([2.0, 1.0, 2.0, 0.0], ((0,), (1, 2), (3,))) == pytest.approx(4.5 / 5)
    assert ordering_accuracy([1.0, 2.0], ((0, 1),)) is None


# Refused


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (((0,), (1, 0)), "twice"),
        (((0, 1, 2),), "maximum order"),
        ((), "every level"),
        (((0,), ()), "every level"),
        (((0,), (-1,)), "negative"),
    ],
)
def test_senseless_rankings_are_refused(levels: Levels, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nll(torch.zeros(3), levels, logs(0.5))


def test_a_tie_is_refused_where_ties_are_not_offered() -> None:
    with pytest.raises(ValueError, match="maximum order 1"):
        nll(torch.zeros(2), ((0, 1),))


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_ratings_outside_the_unit_interval_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        rating_nll(torch.zeros(1), torch.tensor([value]), torch.zeros(1))


def test_ratings_without_biases_are_refused() -> None:
    with pytest.raises(ValueError, match="biases"):
        preference_nll(torch.zeros(1), [RatedScore(0, 1.0, source=0)])
