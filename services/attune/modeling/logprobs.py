"""Log-probabilities of tokens: the one definition that engine and learner share.

log pi(token) = log_softmax(logits / T) over the full vocabulary, in float32, before top-p and top-k. Logits come from a
causal model's forward pass; nothing is sampled and nothing is written here.

Alignment, everywhere in the learner: a tensor of shape (B, T) holds at position t what belongs to the token
input_ids[:, t]. A causal model emits at position t its prediction of token t + 1, so what belongs to token t stands one
place earlier in the model's output. `response_logprobs` and `align_to_tokens` make that shift, and nothing else may.

Refused: a temperature that is not positive (greedy decoding defines no distribution), and a mask that holds position 0
(no logits predict the first token).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

ROWS_PER_CHUNK = 4096
"""How many positions are raised to float32 at once: the copy holds this many times V numbers, not B x T x V."""


def token_logprobs(logits: Tensor, tokens: Tensor, temperature: float = 1.0, rows: int = ROWS_PER_CHUNK) -> Tensor:
    """Log-probability of each token under the logits of the same position: (B, T, V), (B, T) -> (B, T) float32.

    The caller has aligned them: logits[b, t] is the distribution that tokens[b, t] was drawn from. Any leading shape
    works. Above `rows` positions the work is done in chunks that the backward pass computes anew, which bounds memory
    and leaves values and gradients as they are.
    """
    _check_temperature(temperature)
    flat_logits, flat_tokens = logits.reshape(-1, logits.shape[-1]), tokens.reshape(-1)
    if len(flat_tokens) <= rows:
        return _row_logprobs(flat_logits, flat_tokens, temperature).reshape(tokens.shape)
    chunks = [
        checkpoint(_row_logprobs, chunk, chunk_tokens, temperature, use_reentrant=False)
        for chunk, chunk_tokens in zip(flat_logits.split(rows), flat_tokens.split(rows), strict=True)
    ]
    return torch.cat(chunks).reshape(tokens.shape)


def response_logprobs(logits: Tensor, input_ids: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probabilities of the response tokens: (B, T, V), (B, T), mask (B, T) bool -> (B, T) float32.

    The mask is true where input_ids holds a token of the response, its EOS included. The result at a true position t is
    log pi(input_ids[t] | input_ids[<t]), read from the logits at t - 1; elsewhere it is 0. Only rows under the mask are
    read, so that garbage on padding reaches neither the values nor the gradients, and prompts cost nothing.
    """
    if bool(mask[:, 0].any()):
        raise ValueError("the mask holds position 0, but no logits predict the first token")
    predicted = mask[:, 1:]
    picked = token_logprobs(logits[:, :-1][predicted], input_ids[:, 1:][predicted], temperature)
    return torch.zeros(mask.shape, dtype=torch.float32, device=logits.device).masked_scatter(mask, picked)


def align_to_tokens(outputs: Tensor) -> Tensor:
    """Shift a model's per-position outputs to the tokens they precede: (B, T) -> (B, T), position 0 becomes 0.

    The critic's value at token t is V(s_t), the state before the token was drawn, which the value head emits at t - 1.
    """
    return torch.cat([torch.zeros_like(outputs[:, :1]), outputs[:, :-1]], dim=1)


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy in nats of softmax(logits / T) at each position: (B, T, V) -> (B, T) float32. -inf logits count as 0."""
    _check_temperature(temperature)
    logp = torch.log_softmax(logits.float() / temperature, dim=-1)
    p = logp.exp()
    return -(p * torch.where(p > 0, logp, 0.0)).sum(-1)


def _row_logprobs(logits: Tensor, tokens: Tensor, temperature: float) -> Tensor:
    """(N, V), (N,) -> (N,): the definition itself."""
    logp = torch.log_softmax(logits.float() / temperature, dim=-1)
    return logp.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
