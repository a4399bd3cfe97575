"""What a policy must show before it may be named: that this engine decodes it rightly, and up to which length.

The decoder drives a model's attention by its own cache and mask. A family that wants something else would fail on the
first request, or worse, write tokens whose recorded log-probabilities are not those of its revision. So each revision
decodes a few tokens once, in rows of different lengths, and is refused (CheckpointRefused) unless it gives what a plain
forward pass of each row gives. Read: a loaded policy; written: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from transformers import DynamicCache, PretrainedConfig

from attune.domain.errors import CheckpointNotFinite, CheckpointRefused
from attune.domain.generations import Sampling
from attune.modeling.loading import LoadedPolicy
from attune.modeling.logprobs import token_logprobs
from attune.modeling.tokenizer import completion_ids
from attune.policy.decoder import Decoder, Joining
from attune.policy.sampling import RowSampling

STEPS = 2
LARGEST_GAP = {torch.float32: 1e-2, torch.bfloat16: 0.5}
"""Nats by which rounding may part the two ways to one log-probability; a wrong mask parts them by more."""


def within_window(loaded: LoadedPolicy) -> LoadedPolicy:
    """The policy with its context cut to the window of its attention, if that is narrower."""
    window = attention_window(loaded.model.config)
    return loaded if window is None else replace(loaded, max_context=min(loaded.max_context, window))


def attention_window(config: PretrainedConfig) -> int | None:
    """Tokens up to which every layer sees all that came before; None where that has no end.

    The decoder keeps and shows whole rows, which is right only that far.
    """
    windows = [layer.get_max_length() for layer in DynamicCache(config=config).layers if _is_sliding(layer)]
    if "local" in getattr(config, "attention_layers", ()):  # GPT-Neo, whose cache does not know of its window
        windows.append(int(config.window_size))
    return min(windows, default=None)


def check_decodes(loaded: LoadedPolicy, name: str) -> None:
    """CheckpointRefused if the numbers are not finite, or not those of a plain forward pass. Warms the device up."""
    ids = completion_ids(loaded.tokenizer, "ok")
    check_finite_logits(_plain_logits(loaded, ids), name)
    try:
        gap = decoding_gap(loaded, [ids[:1], ids])
    except (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        family = loaded.model.config.model_type
        raise CheckpointRefused(f"{name} is a {family}, which this engine cannot decode: {error}") from error
    if not gap <= LARGEST_GAP[loaded.model.dtype]:
        raise CheckpointRefused(f"{name}: its log-probabilities would be recorded with an error of {gap:.2g} nats")


def next_logprobs(loaded: LoadedPolicy, prompt: Sequence[int], temperature: float) -> torch.Tensor:
    """Of every token that may follow the prompt, its log-probability by a plain pass: (V,) float32 on the CPU."""
    return torch.log_softmax(_plain_logits(loaded, prompt)[0, -1].float() / temperature, dim=-1).cpu()


def check_finite_logits(logits: torch.Tensor, name: str) -> None:
    """CheckpointNotFinite if any of them is."""
    if not bool(torch.isfinite(logits).all()):
        raise CheckpointNotFinite(f"{name} computes logits that are not finite")


def decoding_gap(loaded: LoadedPolicy, prompts: Sequence[Sequence[int]], steps: int = STEPS) -> float:
    """The greatest difference, in nats, between what the decoder says of its tokens and what a plain pass says."""
    rows = RowSampling.of([(Sampling(seed=0), i) for i in range(len(prompts))])
    decoder = Decoder(loaded.model)
    drawn = [decoder.step(Joining(prompts, range(len(prompts)), rows)), *(decoder.step() for _ in range(steps))]
    gaps = [
        abs(found - plain)
        for row, prompt in enumerate(prompts)
        for found, plain in zip(
            [logprobs[row] for _, logprobs in drawn],
            _plain_logprobs(loaded, prompt, [tokens[row] for tokens, _ in drawn]),
            strict=True,
        )
    ]
    return float(np.max(gaps))


def _plain_logprobs(loaded: LoadedPolicy, prompt: Sequence[int], tokens: Sequence[int]) -> list[float]:
    ids = torch.tensor([[*prompt, *tokens]], device=loaded.model.device)
    logits = _plain_logits(loaded, ids[0].tolist())
    return token_logprobs(logits[:, :-1], ids[:, 1:])[0, len(prompt) - 1 :].tolist()


def _plain_logits(loaded: LoadedPolicy, ids: Sequence[int]) -> torch.Tensor:
    with torch.inference_mode():
        return loaded.model(input_ids=torch.tensor([list(ids)], device=loaded.model.device)).logits


def _is_sliding(layer: object) -> bool:
    return bool(getattr(layer, "is_sliding", False))
