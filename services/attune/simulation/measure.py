"""The figures of the report: how much better the policy has become, by the true judge, and how fast feedback worked.

Completions are sampled through the policy server, with the purpose ROLLOUT so that measuring leaves no trace; prompts
are held out from every training text. Definitions are those of the demo in the design.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from attune.client import AsyncClient, Completion, Purpose
from attune.domain.examples import Example
from attune.domain.revisions import STABLE, ModelName, RevisionName
from attune.feedback.join.freshness import example_ranges, newly_served, promotion_us
from attune.modeling.batching import pad
from attune.modeling.loading import LoadedPolicy
from attune.modeling.logprobs import token_logprobs
from attune.platform.registry.registry import Registry
from attune.simulation.grammar import PromptCase
from attune.simulation.taste import Judge

MIN_SCORE_GAP = 0.5
"""Pairs whose true scores differ by less, in deviations of the entering policy's answers, are not judged."""
SCORE_BATCH = 256


@dataclass(frozen=True)
class Sampled:
    """What a revision answered to a prompt."""

    case: PromptCase
    prompt_ids: tuple[int, ...]
    completions: tuple[Completion, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(c.text for c in self.completions)


async def sample(
    client: AsyncClient,
    cases: Sequence[PromptCase],
    revision: str,
    *,
    seed: int,
    completions: int = 1,
    max_tokens: int,
    concurrency: int = 48,
) -> list[Sampled]:
    """Answers of one loaded revision, in the order of the cases."""
    room = asyncio.Semaphore(concurrency)

    async def one(i: int, case: PromptCase) -> Sampled:
        async with room:
            result = await client.generate(
                case.prompt,
                completions=completions,
                max_tokens=max_tokens,
                seed=seed + i,
                revision=revision,
                purpose=Purpose.ROLLOUT,
            )
        return Sampled(case, result.generation.prompt_token_ids, result.generation.completions)

    return list(await asyncio.gather(*(one(i, case) for i, case in enumerate(cases))))


def win_rate(judge: Judge, before: Sequence[Sampled], after: Sequence[Sampled], kind: str | None = None) -> float:
    """How often `after` beats `before` on the same prompts, ties half; completions are compared one by one."""
    points = [
        0.5 if mine == theirs else float(mine > theirs)
        for old, new in zip(before, after, strict=True)
        if kind in (None, old.case.kind)
        for theirs, mine in zip(_scores(judge, old), _scores(judge, new), strict=True)
    ]
    return statistics.fmean(points)


def mean_score(judge: Judge, sampled: Iterable[Sampled]) -> float:
    """Mean true score."""
    return statistics.fmean(score for one in sampled for score in _scores(judge, one))


def _scores(judge: Judge, sampled: Sampled) -> list[float]:
    return [judge(sampled.case.prompt, text) for text in sampled.texts]


def distinct(sampled: Sequence[Sampled]) -> float:
    """Share of different completions."""
    texts = [text for one in sampled for text in one.texts]
    return len(set(texts)) / len(texts)


async def reward_accuracy(
    client: AsyncClient, judge: Judge, std: float, sampled: Sequence[Sampled], revision: str = ""
) -> float:
    """Share of the pairs of one prompt, further apart than MIN_SCORE_GAP x std, that the reward model orders right."""
    pairs = [(one.case.prompt, text) for one in sampled for text in one.texts]
    scores: list[float] = []
    for start in range(0, len(pairs), SCORE_BATCH):
        scores += (await client.score(pairs[start : start + SCORE_BATCH], revision=revision)).raw
    found = iter(scores)
    outcomes = []
    for one in sampled:
        both = list(zip(_scores(judge, one), [next(found) for _ in one.texts], strict=True))
        outcomes += [
            0.5 if mine == theirs else float((mine > theirs) == (true > false))
            for (true, mine), (false, theirs) in itertools.combinations(both, 2)
            if abs(true - false) > MIN_SCORE_GAP * std
        ]
    return statistics.fmean(outcomes)


@torch.inference_mode()
def kl_to_reference(reference: LoadedPolicy, sampled: Sequence[Sampled]) -> float:
    """Nats a response: mean over completions of the sum of log p(token) - log p_ref(token), the k1 estimate."""
    rows = [(one.prompt_ids, c) for one in sampled for c in one.completions]
    gaps = []
    for start in range(0, len(rows), 64):
        batch = rows[start : start + 64]
        padded = pad([(*ids, *c.token_ids) for ids, c in batch], int(reference.tokenizer.pad_token_id))
        logits = reference.model(input_ids=padded.input_ids, attention_mask=padded.attention_mask).logits
        found = token_logprobs(logits[:, :-1], padded.input_ids[:, 1:])
        for row, (ids, c) in enumerate(batch):
            ref = found[row, len(ids) - 1 : len(ids) - 1 + len(c.token_ids)]
            gaps.append(sum(c.logprobs) - ref.sum().item())
    return statistics.fmean(gaps)


@dataclass(frozen=True)
class Freshness:
    """Seconds from an event's acknowledgement to the first user's answer by weights that have learned from it.

    `unserved` events were drawn into an update that no user saw before the end; they count with their age.
    `excluded` ones were drawn into no promoted update: held out, the gate's, or too late.
    """

    p50_s: float
    p95_s: float
    served: int
    unserved: int
    excluded: int


def freshness(
    registry: Registry,
    policy: ModelName,
    reward: ModelName,
    examples: Iterable[Example],
    first_served: Mapping[str, float],
    since: float,
    end: float,
) -> Freshness:
    """Of all events accepted since the loop began (`since`), from the registry's manifests and what users were served.

    `first_served` maps a policy revision's full name to when it first answered a user; times are seconds.
    """
    by_sequence = {e.sequence: e.accept_time for e in examples if e.accept_time >= since}
    served_at = _served_at(registry, policy, first_served)
    waits, unserved, drawn = [], 0, set()
    for name, ranges in _promoted_updates(registry, reward):
        for first, last in ranges:
            for sequence in range(first, last + 1):
                if sequence in by_sequence and sequence not in drawn:
                    drawn.add(sequence)
                    unserved += name not in served_at
                    waits.append(max(0.0, served_at.get(name, end) - by_sequence[sequence]))
    ordered = sorted(waits) or [float("nan")]
    at = [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.95)]
    return Freshness(at[0], at[1], len(waits) - unserved, unserved, len(by_sequence) - len(drawn))


def _served_at(registry: Registry, policy: ModelName, first_served: Mapping[str, float]) -> dict[RevisionName, float]:
    """When each reward revision first stood behind an answer to a user."""
    history = registry.history(policy, STABLE)
    known: list[RevisionName] = []
    found: dict[RevisionName, float] = {}
    for text, seen in sorted(first_served.items(), key=lambda item: item[1]):
        name = RevisionName.parse(text)
        promoted_us = promotion_us(history, name.number)
        if promoted_us is None:
            continue
        for served in newly_served(name, registry.manifest, known):
            found.setdefault(served.revision, max(seen, promoted_us / 1e6))
            known.append(served.revision)
        known.append(name)
    return found


def _promoted_updates(registry: Registry, reward: ModelName) -> list[tuple[RevisionName, tuple[tuple[int, int], ...]]]:
    promoted = sorted({record.number for record in registry.history(reward, STABLE)} - {0})  # 0 points at nothing
    names = [reward.revision(number) for number in promoted]
    return [(name, example_ranges(registry.manifest(name).details)) for name in names]
