"""Draws: by hand-worked distributions, by seed, and as often as their probability."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from attune.domain.generations import Sampling
from attune.policy.sampling import RowSampling, draw, stream_of, uniforms

P = [0.5, 0.25, 0.15, 0.1]
LOGITS = torch.log(torch.tensor([P]))


def rows(n: int = 1, **how: Any) -> RowSampling:
    return RowSampling.of([(Sampling(seed=7, **how), i) for i in range(n)])


def drawn(u: float, **limits: float) -> int:
    tokens, _ = draw(LOGITS, rows(**limits), np.array([u]))
    return int(tokens[0])


@pytest.mark.parametrize(("u", "token"), [(0.0, 0), (0.49, 0), (0.51, 1), (0.74, 1), (0.76, 2), (0.91, 3), (0.9999, 3)])
def test_a_token_is_the_inverse_of_the_cumulative_distribution(u: float, token: int) -> None:
    assert drawn(u) == token


@pytest.mark.parametrize(
    ("limits", "allowed"),
    [
        ({"top_k": 1}, {0}),
        ({"top_k": 2}, {0, 1}),
        ({"top_k": 9}, {0, 1, 2, 3}),
        ({"top_p": 0.4}, {0}),
        ({"top_p": 0.6}, {0, 1}),
        ({"top_p": 0.76}, {0, 1, 2}),
        ({"top_p": 0.76, "top_k": 2}, {0, 1}),
        ({"top_p": 1e-6}, {0}),
    ],
)
def test_truncation_keeps_the_likeliest(limits: dict, allowed: set[int]) -> None:
    assert {drawn(u / 1000, **limits) for u in range(1000)} == allowed


def test_kept_tokens_keep_their_proportions() -> None:
    found = [drawn(u / 900, top_k=2) for u in range(900)]
    assert found.count(0) / 900 == pytest.approx(2 / 3, abs=0.01)


@pytest.mark.parametrize("limits", [{}, {"top_k": 1}, {"top_p": 0.6}])
def test_logprobs_are_of_the_full_distribution_at_the_temperature(limits: dict) -> None:
    _, logprobs = draw(LOGITS, rows(temperature=0.5, **limits), np.array([0.1]))
    squared = [p * p for p in P]
    assert float(logprobs[0]) == pytest.approx(math.log(squared[0] / sum(squared)), abs=1e-6)


def test_uniforms_repeat_by_seed_and_differ_by_completion_and_position() -> None:
    streams = np.array([stream_of(3, i) for i in range(64)], dtype=np.uint64)
    first, again = uniforms(streams, np.zeros(64, np.int64)), uniforms(streams, np.zeros(64, np.int64))
    later = uniforms(streams, np.ones(64, np.int64))
    assert (first == again).all()
    assert len(set(first) | set(later)) == 128
    assert not (first == uniforms(np.array([stream_of(4, i) for i in range(64)], np.uint64), np.zeros(64, int))).any()


def test_rows_know_whether_any_cuts_its_distribution() -> None:
    assert rows(2, temperature=0.5).is_whole
    mixed = rows(2).joined(rows(1, top_k=3))
    assert not mixed.is_whole
    assert mixed.kept([1, 0]).is_whole
    assert (mixed.kept([2, 0]).stream == mixed.stream[[2, 0]]).all()


def test_rows_of_requests_carry_their_sampling_and_their_streams() -> None:
    asked = [(Sampling(temperature=0.5, top_p=0.9, top_k=4, seed=8), 0), (Sampling(seed=8), 1)]
    found = RowSampling.of(asked)
    assert found.temperature.tolist() == [0.5, 1.0]
    assert found.top_p.tolist() == pytest.approx([0.9, 1.0])
    assert found.top_k.tolist() == [4, 0]
    assert found.stream.tolist() == [int(stream_of(8, 0)), int(stream_of(8, 1))]


def test_wide_logits_give_finite_logprobs() -> None:
    logits = torch.tensor([[0.0, 500.0, -500.0]])
    tokens, logprobs = draw(logits, rows(), np.array([0.5]))
    assert (int(tokens[0]), float(logprobs[0])) == (1, 0.0)


def test_draws_are_as_frequent_as_they_are_likely() -> None:
    n = 4000
    u = uniforms(np.array([stream_of(11, i) for i in range(n)], dtype=np.uint64), np.zeros(n, np.int64))
    assert 0 <= u.min() < u.max() < 1
    tokens, _ = draw(LOGITS.repeat(n, 1), rows(n), u)
    shares = np.bincount(tokens, minlength=4) / n
    assert shares.tolist() == pytest.approx(P, abs=0.03)
