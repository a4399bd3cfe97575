"""Completions that a loaded policy draws here, a batch at a time: for one who holds weights that no server serves.

Prompts are token lists from the caller, tokens go back to him. One stream of random numbers serves the whole batch, so
a seed repeats a batch, not a completion in another one. Refused: a prompt that leaves no room in the context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from attune.domain.errors import PromptTooLong
from attune.modeling.batching import pad
from attune.modeling.loading import LoadedPolicy


@dataclass(frozen=True)
class Drawn:
    """One completion, its EOS included, and of each token log-softmax(logits / temperature)."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]


@torch.inference_mode()
def draw(
    policy: LoadedPolicy, prompts: Sequence[Sequence[int]], *, temperature: float, max_tokens: int, seed: int
) -> list[Drawn]:
    """A completion of each prompt, of at most `max_tokens` and what the context leaves. PromptTooLong."""
    model, device = policy.model, policy.model.device
    room = [min(max_tokens, policy.max_context - len(prompt)) for prompt in prompts]
    if min(room) < 1:
        raise PromptTooLong(f"a prompt has {max(map(len, prompts))} tokens and the context {policy.max_context}")
    batch = pad(prompts, int(policy.tokenizer.pad_token_id), "left", device)
    input_ids, mask, positions = batch.input_ids, batch.attention_mask, batch.position_ids
    cache = DynamicCache(config=model.config)
    generator, limits = torch.Generator(device).manual_seed(seed), torch.tensor(room, device=device)
    is_open = torch.ones(len(prompts), dtype=torch.bool, device=device)
    drawn: list[Tensor] = []
    logprobs: list[Tensor] = []
    while bool(is_open.any()):
        out = model(input_ids=input_ids, attention_mask=mask, position_ids=positions, cache=cache, use_cache=True)
        every = torch.log_softmax(out.logits[:, -1].float() / temperature, dim=-1)
        input_ids = torch.multinomial(every.exp(), 1, generator=generator)
        drawn.append(input_ids)
        logprobs.append(every.gather(1, input_ids))
        is_open &= (input_ids[:, 0] != policy.tokenizer.eos_token_id) & (len(drawn) < limits)
        mask = torch.cat([mask, torch.ones_like(input_ids)], dim=1)
        # What is computed for a row that has ended is not used, but its positions must be some that the model has.
        positions = (positions[:, -1:] + 1).clamp(max=policy.max_context - 1)
    rows = zip(torch.cat(drawn, 1).tolist(), torch.cat(logprobs, 1).tolist(), room, strict=True)
    return [_cut(tokens[:n], found[:n], policy.tokenizer.eos_token_id) for tokens, found, n in rows]


def _cut(tokens: list[int], logprobs: list[float], eos_id: int) -> Drawn:
    """Up to and with the EOS."""
    end = tokens.index(eos_id) + 1 if eos_id in tokens else len(tokens)
    return Drawn(tuple(tokens[:end]), tuple(logprobs[:end]))
