"""Log-probabilities against a literal softmax in Python, and the alignment of logits to tokens."""

from __future__ import annotations

import math

import pytest
import torch
from attune.modeling.logprobs import align_to_tokens, entropy, response_logprobs, token_logprobs
from torch import Tensor


def literal_logprob(row: list[float], token: int, temperature: float) -> float:
    scaled = [x / temperature for x in row]
    return scaled[token] - math.log(sum(math.exp(x) for x in scaled))


def random_logits(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_token_logprobs_equal_the_literal_softmax(temperature: float) -> None:
    logits, tokens = random_logits(2, 3, 5), torch.tensor([[0, 4, 2], [1, 1, 3]])
    logprobs = token_logprobs(logits, tokens, temperature)
    for b in range(2):
        for t in range(3):
            expected = literal_logprob(logits[b, t].tolist(), int(tokens[b, t]), temperature)
            assert logprobs[b, t].item() == pytest.approx(expected, abs=1e-6)


def test_a_uniform_model_gives_minus_log_of_the_vocabulary() -> None:
    logprobs = token_logprobs(torch.full((1, 2, 8), 3.0), torch.tensor([[0, 7]]))
    assert torch.allclose(logprobs, torch.full((1, 2), -math.log(8)))


def test_half_precision_logits_are_raised_to_float32() -> None:
    logits, tokens = random_logits(1, 4, 50).bfloat16(), torch.tensor([[0, 9, 20, 49]])
    logprobs = token_logprobs(logits, tokens, 0.7)
    assert logprobs.dtype == torch.float32
    assert torch.equal(logprobs, token_logprobs(logits.float(), tokens, 0.7))


def test_chunks_change_neither_values_nor_gradients() -> None:
    tokens = torch.randint(0, 11, (3, 7), generator=torch.Generator().manual_seed(1))
    whole, chunked = (random_logits(3, 7, 11).requires_grad_() for _ in range(2))
    a, b = token_logprobs(whole, tokens, 0.9), token_logprobs(chunked, tokens, 0.9, rows=4)
    a.square().sum().backward()
    b.square().sum().backward()
    assert torch.equal(a, b)
    assert torch.equal(whole.grad, chunked.grad)


def test_gradient_is_one_hot_minus_softmax_over_temperature() -> None:
    logits, temperature = random_logits(1, 1, 6).requires_grad_(), 0.8
    token_logprobs(logits, torch.tensor([[2]]), temperature).sum().backward()
    one_hot = torch.nn.functional.one_hot(torch.tensor(2), 6)
    expected = (one_hot - torch.softmax(logits.detach()[0, 0] / temperature, -1)) / temperature
    assert torch.allclose(logits.grad[0, 0], expected, atol=1e-6)


def test_response_logprobs_read_the_logits_one_place_earlier() -> None:
    logits, input_ids = random_logits(2, 5, 7), torch.tensor([[1, 2, 3, 4, 0], [0, 5, 6, 1, 2]])
    mask = torch.tensor([[0, 0, 1, 1, 0], [0, 0, 0, 1, 1]], dtype=torch.bool)
    logprobs = response_logprobs(logits, input_ids, mask, 0.7)
    for b in range(2):
        for t in range(5):
            expected = literal_logprob(logits[b, t - 1].tolist(), int(input_ids[b, t]), 0.7) if mask[b, t] else 0.0
            assert logprobs[b, t].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("garbage", [1e30, -1e30, float("inf"), float("nan")])
def test_garbage_outside_the_response_reaches_neither_values_nor_gradients(garbage: float) -> None:
    input_ids = torch.tensor([[1, 2, 3, 4, 0]])
    mask = torch.tensor([[False, False, True, True, False]])
    spoiled = random_logits(1, 5, 7)
    clean = spoiled.clone().requires_grad_()
    spoiled[:, [0, 3, 4]] = garbage
    spoiled.requires_grad_()
    a, b = response_logprobs(clean, input_ids, mask), response_logprobs(spoiled, input_ids, mask)
    a.sum().backward()
    b.sum().backward()
    assert torch.equal(a, b)
    assert torch.equal(clean.grad, spoiled.grad)


def test_padding_side_does_not_change_the_logprobs() -> None:
    logits, ids = random_logits(1, 4, 7), torch.tensor([[1, 2, 3, 4]])
    mask = torch.tensor([[False, False, True, True]])
    pad_logits, pad_id, pad_mask = random_logits(1, 2, 7, seed=9), torch.zeros(1, 2, dtype=torch.long), mask[:, :2]
    left = response_logprobs(
        torch.cat([pad_logits, logits], 1), torch.cat([pad_id, ids], 1), torch.cat([pad_mask, mask], 1)
    )
    right = response_logprobs(
        torch.cat([logits, pad_logits], 1), torch.cat([ids, pad_id], 1), torch.cat([mask, pad_mask], 1)
    )
    assert torch.equal(left[:, 2:], right[:, :4])


def test_the_first_token_is_refused() -> None:
    with pytest.raises(ValueError, match="position 0"):
        response_logprobs(random_logits(1, 2, 3), torch.tensor([[0, 1]]), torch.tensor([[True, True]]))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        token_logprobs(random_logits(1, 1, 3), torch.tensor([[0]]), temperature)
    with pytest.raises(ValueError, match="temperature"):
        entropy(random_logits(1, 1, 3), temperature)


def test_align_to_tokens_moves_each_output_to_the_token_it_precedes() -> None:
    assert torch.equal(align_to_tokens(torch.tensor([[1.0, 2.0, 3.0]])), torch.tensor([[0.0, 1.0, 2.0]]))


def test_entropy_equals_the_literal_sum_and_ignores_forbidden_tokens() -> None:
    logits = torch.tensor([[[0.3, -1.0, 2.0, float("-inf")], [1.0, 1.0, 1.0, 1.0]]]).requires_grad_()
    h = entropy(logits, 0.5)
    p = [math.exp(literal_logprob([0.3, -1.0, 2.0], i, 0.5)) for i in range(3)]
    assert h[0, 0].item() == pytest.approx(-sum(x * math.log(x) for x in p), abs=1e-6)
    assert h[0, 1].item() == pytest.approx(math.log(4), abs=1e-6)
    h.sum().backward()
    assert torch.isfinite(logits.grad).all()
