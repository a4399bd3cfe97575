"""Kernels against what torch computes, and draws at the edges of their distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attune.policy.kernels import attend, draw_whole, gate, normalise
from torch.nn import functional

RNG = np.random.default_rng(3)


def numbers(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("width", [1, 7, 64])
def test_norm(width: int) -> None:
    x, weight, found = numbers(5, width), numbers(width), np.empty((5, width), np.float32)
    normalise(x, weight, 1e-5, found)
    expected = functional.rms_norm(torch.from_numpy(x), (width,), torch.from_numpy(weight), 1e-5)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_gate_from_far_below_zero_to_far_above() -> None:
    sides, found = numbers(3, 14), np.empty((3, 7), np.float32)
    sides[0, :7] = [-1e4, -100, -20, 0, 20, 100, 1e4]
    gate(sides, found)
    expected = functional.silu(torch.from_numpy(sides[:, :7])) * torch.from_numpy(sides[:, 7:])
    np.testing.assert_allclose(found, expected.numpy(), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attention_to_what_stands_before_in_the_row(kv_heads: int) -> None:
    heads, width, length = 4, 8, 6
    qkv, cos, sin = numbers(length, (heads + 2 * kv_heads) * width), numbers(10, width // 2), numbers(10, width // 2)
    cache = np.full((3, kv_heads, 10, width), np.nan, np.float32), np.full((3, kv_heads, 10, width), np.nan, np.float32)
    found = np.empty((length, heads * width), np.float32)
    attend(qkv, (cos, sin), cache, np.full(length, 1), np.arange(length), found)

    x = torch.from_numpy(qkv).unflatten(1, (-1, width)).transpose(0, 1)
    turns = [torch.from_numpy(np.concatenate([part, part], 1)[:length]) for part in (cos, sin)]
    turned = x * turns[0] + torch.cat([-x[..., width // 2 :], x[..., : width // 2]], -1) * turns[1]
    q, k, v = turned[:heads], turned[heads : heads + kv_heads], x[heads + kv_heads :]
    expected = functional.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True, enable_gqa=True)[0]
    np.testing.assert_allclose(found, expected.transpose(0, 1).flatten(1).numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(cache[0][1, :, :length], k.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(cache[1][1, :, :length], v.numpy())
    assert np.isnan(cache[0][[0, 2]]).all()


def drawn(logits: np.ndarray, u: float, temperature: float = 1.0) -> tuple[int, float]:
    token, logprob = np.empty(1, np.int64), np.empty(1, np.float32)
    one = logits[None].astype(np.float32)
    draw_whole(one, one.max(-1), np.array([temperature], np.float32), np.array([u]), token, logprob)
    return int(token[0]), float(logprob[0])


@pytest.mark.parametrize("temperature", [1.0, 0.3, 5.0])
def test_draws_are_the_inverse_of_the_cumulative_distribution(temperature: float) -> None:
    logits = 3 * numbers(1000)
    expected = torch.log_softmax(torch.from_numpy(logits).double() / temperature, -1)
    cumulative = expected.exp().cumsum(-1)
    for u in RNG.random(200):
        token, logprob = drawn(logits, u, temperature)
        assert (cumulative[token] - expected[token].exp()) - 1e-6 <= u <= cumulative[token] + 1e-6
        assert logprob == pytest.approx(float(expected[token]), abs=1e-5)


@pytest.mark.parametrize("u", [0.0, 0.5, 1 - 2**-53])
def test_what_has_no_probability_is_never_drawn(u: float) -> None:
    logits = np.full(200, -np.inf)
    logits[[70, 130]] = 0.0
    assert drawn(logits, u) == (70 if u < 0.5 else 130, pytest.approx(np.log(0.5)))
