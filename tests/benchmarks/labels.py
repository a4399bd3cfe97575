"""Whether completions were written by the weights that they name: their log-probabilities computed anew.

Every token of a span is compared with a plain forward pass of the revision that the span names, over the prompt and all
tokens before it, at the temperature that was recorded. A completion is mislabelled if one of them is off by more than
the tolerance, or if its spans leave out a token or claim one twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from attune.domain.generations import Completion, Generation
from attune.modeling.batching import pad
from attune.modeling.loading import LoadedPolicy
from attune.modeling.logprobs import token_logprobs

TOLERANCE = 2e-3
"""Nats. Two orders of the same float32 sums stay far below it; other weights are off by a thousand times as much."""
BATCH = 64


@dataclass(frozen=True)
class Checked:
    """What came of it: completions, the ids of the mislabelled ones, and the greatest gap of the others in nats."""

    completions: int
    mislabelled: frozenset[str]
    largest_gap: float


@dataclass(frozen=True)
class _Claim:
    """Tokens first..end of a completion, said to be one revision's."""

    id: str
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    first: int
    temperature: float


def check(
    generations: Sequence[Generation], policies: Mapping[str, LoadedPolicy], tolerance: float = TOLERANCE
) -> Checked:
    """`policies` by the full name of their revision. KeyError for a revision that is not among them."""
    gaps: dict[str, float] = {}
    for name, claims in _by_revision(generations, gaps).items():
        claims.sort(key=lambda claim: len(claim.ids))
        for at in range(0, len(claims), BATCH):
            batch = claims[at : at + BATCH]
            for claim, gap in zip(batch, _gaps(policies[name], batch), strict=True):
                gaps[claim.id] = max(gaps.get(claim.id, 0.0), gap)
    wrong = frozenset(id for id, gap in gaps.items() if gap > tolerance)
    return Checked(len(gaps), wrong, max((gap for id, gap in gaps.items() if id not in wrong), default=0.0))


def _by_revision(generations: Sequence[Generation], gaps: dict[str, float]) -> dict[str, list[_Claim]]:
    """The claims of all spans; completions whose spans do not add up are put into `gaps` as infinitely wrong."""
    found: dict[str, list[_Claim]] = {}
    for generation in generations:
        for completion in generation.completions:
            if not _adds_up(completion):
                gaps[completion.id] = math.inf
                continue
            for name, claim in _claims(generation, completion):
                found.setdefault(name, []).append(claim)
    return found


def _adds_up(completion: Completion) -> bool:
    starts = [span.first_token for span in completion.spans]
    ends = [span.first_token + span.tokens for span in completion.spans]
    whole = len(completion.token_ids)
    return starts == [0, *ends][: len(starts)] and ends[-1:] == [whole] and len(completion.logprobs) == whole


def _claims(generation: Generation, completion: Completion) -> Iterator[tuple[str, _Claim]]:
    for span in completion.spans:
        end = span.first_token + span.tokens
        ids = (*generation.prompt_token_ids, *completion.token_ids[:end])
        yield (
            span.revision,
            _Claim(
                completion.id,
                ids,
                completion.logprobs[span.first_token : end],
                len(generation.prompt_token_ids) + span.first_token,
                generation.sampling.temperature,
            ),
        )


@torch.inference_mode()
def _gaps(policy: LoadedPolicy, claims: Sequence[_Claim]) -> list[float]:
    """The greatest difference of each claim, infinite where a recorded number is none."""
    batch = pad([claim.ids for claim in claims], int(policy.tokenizer.pad_token_id))
    logits = policy.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    found = []
    for claim, row in zip(claims, logits, strict=True):
        ids = torch.tensor([claim.ids])
        plain = token_logprobs(row[None, : ids.shape[1] - 1], ids[:, 1:], claim.temperature)[0, claim.first - 1 :]
        found.append(float((plain - torch.tensor(claim.logprobs)).abs().nan_to_num(nan=math.inf).max()))
    return found
