"""What the trainer asks of the other services, and the adapter that asks over gRPC through attune.client.

The protocol is narrow so that tests can answer it in process. Every method may raise the errors of `TRANSIENT`, which
the loop waits out and tries again, since no service may depend on another being up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from attune.client import Access, AsyncClient
from attune.client.control import AsyncFeedbackControlClient, AsyncPolicyControlClient, AsyncRewardControlClient
from attune.domain.errors import (
    AttuneError,
    DeadlineExceeded,
    DeadlineUnattainable,
    NoRevision,
    Paused,
    QueueFull,
    RevisionNotLoaded,
    ServerUnavailable,
)
from attune.domain.examples import Example
from attune.domain.generations import Generation, Purpose, Sampling
from attune.domain.prompts import Prompt
from attune.platform.deadline import remaining_s

TRANSIENT = (
    ServerUnavailable,
    DeadlineExceeded,
    DeadlineUnattainable,
    QueueFull,
    NoRevision,
    Paused,
    RevisionNotLoaded,
)
PAIRS_PER_CALL = 256
APP_ID = "attune.trainer"
R = TypeVar("R")


@dataclass(frozen=True)
class ExamplePage:
    """Some examples and removals, and the cursors that come after them."""

    examples: tuple[Example, ...]
    removed: tuple[int, ...]
    last_sequence: int
    last_removal: int
    is_last: bool


class Servers(Protocol):
    """The other services as the trainer sees them."""

    async def rollout(self, prompt: Prompt, sampling: Sampling, revision: str) -> Generation:
        """Completions of a prompt by one policy revision, not recorded."""

    async def score(self, revision: str, pairs: Sequence[tuple[Prompt, str]]) -> list[float]:
        """Normalised scores by one reward revision, in the order of the pairs."""

    async def load_policy(self, revision: str, epoch: int) -> None:
        """Preloads a policy revision."""

    async def load_reward(self, revision: str, epoch: int) -> None:
        """Preloads a reward revision."""

    async def read_examples(self, after_sequence: int, after_removal: int) -> ExamplePage:
        """The next page of examples and removals."""

    async def read_prompts(self) -> list[Prompt]:
        """The whole reservoir of live prompts."""


class GrpcServers:
    """The services at their addresses; `close` when done. A call made for one that is being served gets what is left
    of that one's deadline; errors name their server in the metadata."""

    def __init__(
        self,
        *,
        policy: str,
        policy_control: str,
        reward: str,
        reward_control: str,
        join_control: str,
        timeout_s: float,
        app_access: Access | None = None,
        control_access: Access | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._client = AsyncClient(app_id=APP_ID, policy_address=policy, reward_address=reward, access=app_access)
        self._policy = AsyncPolicyControlClient(policy_control, access=control_access)
        self._reward = AsyncRewardControlClient(reward_control, access=control_access)
        self._join = AsyncFeedbackControlClient(join_control, access=control_access)

    async def rollout(self, prompt: Prompt, sampling: Sampling, revision: str) -> Generation:
        asked = self._client.generate(
            prompt,
            completions=sampling.completions,
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=1.0,  # said, for the policy server may be set to truncate what users get
            top_k=0,
            seed=sampling.seed,
            revision=revision,
            purpose=Purpose.ROLLOUT,
            timeout_s=remaining_s(self._timeout_s),
        )
        return (await _answer("policy", asked)).generation

    async def score(self, revision: str, pairs: Sequence[tuple[Prompt, str]]) -> list[float]:
        scores: list[float] = []
        for i in range(0, len(pairs), PAIRS_PER_CALL):
            part = pairs[i : i + PAIRS_PER_CALL]
            asked = self._client.score(part, revision=revision, timeout_s=remaining_s(self._timeout_s))
            scores.extend((await _answer("reward", asked)).normalised)
        return scores

    async def load_policy(self, revision: str, epoch: int) -> None:
        left_s = remaining_s(self._timeout_s)
        await _answer("policy", self._policy.load_revision(revision, epoch=epoch, timeout_s=left_s))

    async def load_reward(self, revision: str, epoch: int) -> None:
        left_s = remaining_s(self._timeout_s)
        await _answer("reward", self._reward.load_revision(revision, epoch=epoch, timeout_s=left_s))

    async def read_examples(self, after_sequence: int, after_removal: int) -> ExamplePage:
        asked = self._join.read_examples(after_sequence, page_size=1000, after_removal=after_removal)
        page = await _answer("join", asked)
        return ExamplePage(
            examples=tuple(page.examples),
            removed=tuple(r.sequence for r in page.removals),
            last_sequence=page.last_sequence,
            last_removal=page.last_removal,
            is_last=page.last_sequence >= page.end_sequence and not page.removals,
        )

    async def read_prompts(self) -> list[Prompt]:
        prompts: list[Prompt] = []
        after = 0
        while True:
            page = await _answer("join", self._join.read_prompts(after, page_size=1000))
            prompts.extend(p.prompt for p in page.prompts)
            if not page.prompts:
                return prompts
            after = page.last_sequence

    async def close(self) -> None:
        for connection in (self._client, self._policy, self._reward, self._join):
            await connection.close()


async def _answer(server: str, asked: Awaitable[R]) -> R:
    """What a server answers; an error carries the server's name."""
    try:
        return await asked
    except AttuneError as error:
        error.metadata.setdefault("server", server)
        raise
