"""Rollouts: completions that the stable policy wrote for the learner, with their scores, and how they are gathered.

A rollout is pinned to one policy revision and scored by one reward revision; a batch names both. Refused: completions
that another revision wrote in part, as an engine does that changes its weights in place when stable moves meanwhile.
Prompts come from the caller; Generate and Score are the only calls made, or none where the trainer writes itself. Saved
as safetensors beside the step's input, so that a step can be replayed without asking the servers again. Text is needed
only for scoring and is not kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file, save_file

from attune.domain.errors import RevisionNotLoaded
from attune.domain.generations import Completion, FinishReason, Generation, RevisionSpan, Sampling
from attune.domain.prompts import Prompt
from attune.modeling.drawing import Drawn, draw
from attune.modeling.loading import LoadedPolicy
from attune.modeling.tokenizer import render_prompt


@dataclass(frozen=True)
class Rollout:
    """One sampled response. `logprobs` are the engine's, one a response token; `score` is normalised."""

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    ended: bool
    score: float


@dataclass(frozen=True)
class RolloutBatch:
    """Rollouts of one policy revision, scored by one reward revision (full names)."""

    policy_revision: str
    reward_revision: str
    rollouts: tuple[Rollout, ...]

    def save(self, path: Path) -> None:
        """Flat tensors of tokens and log-probabilities with their lengths; revisions as metadata."""
        r = self.rollouts
        tensors = {
            "prompt_ids": torch.tensor([t for x in r for t in x.prompt_ids], dtype=torch.int32),
            "prompt_lengths": torch.tensor([len(x.prompt_ids) for x in r], dtype=torch.int32),
            "response_ids": torch.tensor([t for x in r for t in x.response_ids], dtype=torch.int32),
            "response_lengths": torch.tensor([len(x.response_ids) for x in r], dtype=torch.int32),
            "logprobs": torch.tensor([p for x in r for p in x.logprobs], dtype=torch.float64),
            "ended": torch.tensor([x.ended for x in r], dtype=torch.bool),
            "scores": torch.tensor([x.score for x in r], dtype=torch.float64),
        }
        save_file(tensors, path)

    @classmethod
    def load(cls, path: Path, policy_revision: str, reward_revision: str) -> RolloutBatch:
        t = load_file(path)
        prompts = t["prompt_ids"].split(t["prompt_lengths"].tolist())
        responses = t["response_ids"].split(t["response_lengths"].tolist())
        logprobs = t["logprobs"].split(t["response_lengths"].tolist())
        columns = zip(prompts, responses, logprobs, t["ended"].tolist(), t["scores"].tolist(), strict=True)
        rollouts = tuple(
            Rollout(tuple(p.tolist()), tuple(r.tolist()), tuple(lp.tolist()), ended, score)
            for p, r, lp, ended, score in columns
        )
        return cls(policy_revision, reward_revision, rollouts)


@dataclass(frozen=True)
class Sample:
    """A completion of a prompt before it is scored; `text` is for the scorer."""

    prompt: Prompt
    prompt_ids: tuple[int, ...]
    completion: Completion

    @property
    def ended(self) -> bool:
        return self.completion.finish_reason is FinishReason.EOS


class Generator(Protocol):
    """What rollouts need of the policy client."""

    async def rollout(self, prompt: Prompt, sampling: Sampling, revision: str) -> Generation: ...


class Scorer(Protocol):
    """What rollouts need of the reward client: normalised scores in the order of the pairs."""

    async def score(self, revision: str, pairs: Sequence[tuple[Prompt, str]]) -> list[float]: ...


async def sample(
    generator: Generator, prompts: Sequence[Prompt], revision: str, sampling: Sampling, seed: int
) -> list[Sample]:
    """Completions of every prompt by one revision, in the order of the prompts; prompt i draws with seed + i.

    RevisionNotLoaded if another revision wrote some of a completion; the first error of the generator."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(generator.rollout(prompt, replace(sampling, seed=seed + i), revision))
                for i, prompt in enumerate(prompts)
            ]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    generations = [task.result() for task in tasks]
    samples = [
        Sample(prompt, generation.prompt_token_ids, completion)
        for prompt, generation in zip(prompts, generations, strict=True)
        for completion in generation.completions
    ]
    _check_whole(samples, revision)
    return samples


def _check_whole(samples: Sequence[Sample], revision: str) -> None:
    others = {span.revision for s in samples for span in s.completion.spans} - {revision}
    if others:
        raise RevisionNotLoaded(
            f"{', '.join(sorted(others))} wrote some of what {revision} was asked for", metadata={"revision": revision}
        )


def sample_here(
    policy: LoadedPolicy, revision: str, prompts: Sequence[Prompt], sampling: Sampling, seed: int
) -> list[Sample]:
    """The same by a policy that is loaded here; all are drawn with one seed. PromptTooLong."""
    prompt_ids = [render_prompt(policy.tokenizer, prompt.as_chat()) for prompt in prompts]
    repeated = [ids for ids in prompt_ids for _ in range(sampling.completions)]
    drawn = draw(policy, repeated, temperature=sampling.temperature, max_tokens=sampling.max_tokens, seed=seed)
    return [
        Sample(prompts[i // sampling.completions], tuple(repeated[i]), _completion(policy, revision, f"{i}", one))
        for i, one in enumerate(drawn)
    ]


def _completion(policy: LoadedPolicy, revision: str, name: str, drawn: Drawn) -> Completion:
    return Completion(
        id=name,
        text=str(policy.tokenizer.decode(list(drawn.token_ids), skip_special_tokens=True)),
        token_ids=drawn.token_ids,
        logprobs=drawn.logprobs,
        finish_reason=FinishReason.EOS if drawn.token_ids[-1] == policy.tokenizer.eos_token_id else FinishReason.LENGTH,
        spans=(RevisionSpan(revision, 0, len(drawn.token_ids)),),
    )


async def scored(scorer: Scorer, samples: Sequence[Sample], policy_revision: str, reward_revision: str) -> RolloutBatch:
    """The samples as rollouts, scored by one reward revision."""
    scores = await scorer.score(reward_revision, [(s.prompt, s.completion.text) for s in samples])
    rollouts = tuple(
        Rollout(s.prompt_ids, s.completion.token_ids, s.completion.logprobs, s.ended, score)
        for s, score in zip(samples, scores, strict=True)
    )
    return RolloutBatch(policy_revision, reward_revision, rollouts)
