"""The asyncio client: as attune.client.client, method for method, and streams of feedback.

Make and use it inside one running loop. A cancelled task cancels its call.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing
from typing import Self, TypeVar, Unpack

from attune.client import requests
from attune.client.access import Access
from attune.client.calls import AsyncConnection, Call
from attune.client.requests import (
    CompletionLike,
    FeedbackOptions,
    GenerateOptions,
    PromptLike,
    RankingLike,
    Timeouts,
    named,
)
from attune.client.results import Delta, GenerationResult, Receipt, Scores
from attune.client.retries import RetryPolicy
from attune.domain.errors import AttuneError
from attune.domain.feedback import FeedbackEvent

R = TypeVar("R")


class AsyncClient:
    """As Client."""

    def __init__(
        self,
        *,
        app_id: str,
        policy_address: str | None = None,
        feedback_address: str | None = None,
        reward_address: str | None = None,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        access: Access | None = None,
    ) -> None:
        self.app_id = app_id
        self._timeouts = timeouts or Timeouts()
        addresses = {"policy": policy_address, "feedback": feedback_address, "reward": reward_address}
        self._connections = {
            name: AsyncConnection(address, retry, access) for name, address in addresses.items() if address
        }

    async def wait_until_serving(self, timeout_s: float) -> None:
        """Returns when every server it speaks to is SERVING; ServerUnavailable if one takes longer."""
        for connection in self._connections.values():
            await connection.wait_until_serving(timeout_s)

    async def generate(self, prompt: PromptLike, **options: Unpack[GenerateOptions]) -> GenerationResult:
        """Writes all completions of a prompt; a string is one user turn."""
        return await self._run("policy", requests.generate(self.app_id, prompt, options, self._timeouts.generate_s))

    def stream(
        self, prompt: PromptLike, **options: Unpack[GenerateOptions]
    ) -> AsyncGenerator[Delta | GenerationResult, None]:
        """Deltas as they are written, then the whole result; closing it (`contextlib.aclosing`) cancels the
        generation."""
        call = requests.stream(self.app_id, prompt, options, self._timeouts.generate_s)
        return named(self._connections, "policy").stream(call)

    async def score(
        self, pairs: Iterable[tuple[PromptLike, str]], *, revision: str = "", timeout_s: float | None = None
    ) -> Scores:
        """Scores pairs of prompt and completion text, all with one reward revision."""
        return await self._run("reward", requests.score(pairs, revision, timeout_s, self._timeouts.score_s))

    async def rate(self, completion: CompletionLike, value: float, **options: Unpack[FeedbackOptions]) -> Receipt:
        """A number in [0, 1] for one completion; a thumb is 0 or 1."""
        feedback = requests.rating(completion, value)
        return await self._run("feedback", requests.give(self.app_id, feedback, options, self._timeouts.feedback_s))

    async def compare(
        self, chosen: CompletionLike, rejected: CompletionLike, **options: Unpack[FeedbackOptions]
    ) -> Receipt:
        """Which of two is better."""
        feedback = requests.comparison(chosen, rejected)
        return await self._run("feedback", requests.give(self.app_id, feedback, options, self._timeouts.feedback_s))

    async def rank(self, best_to_worst: RankingLike, **options: Unpack[FeedbackOptions]) -> Receipt:
        """An order, best first; a list inside is a tie."""
        feedback = requests.ranking(best_to_worst)
        return await self._run("feedback", requests.give(self.app_id, feedback, options, self._timeouts.feedback_s))

    async def demonstrate(self, completion: CompletionLike, text: str, **options: Unpack[FeedbackOptions]) -> Receipt:
        """The answer it should have been."""
        feedback = requests.demonstration(completion, text)
        return await self._run("feedback", requests.give(self.app_id, feedback, options, self._timeouts.feedback_s))

    async def submit(self, event: FeedbackEvent, *, timeout_s: float | None = None) -> Receipt:
        """One event; when this returns, the event log has it for good."""
        return await self._run("feedback", requests.submit(event, timeout_s, self._timeouts.feedback_s))

    async def ingest(
        self, events: Iterable[FeedbackEvent], *, timeout_s: float | None = None
    ) -> list[Receipt | AttuneError]:
        """Many events: for each its receipt, or the error for which it was not taken. `timeout_s` for each 1000.

        Raises only if a whole call fails; then all events may be sent again."""
        calls = requests.ingest(events, timeout_s, self._timeouts.feedback_s)
        return [result for call in calls for result in await self._run("feedback", call)]

    async def stream_feedback(
        self, events: AsyncIterable[FeedbackEvent], *, timeout_s: float | None = None
    ) -> AsyncGenerator[Receipt | AttuneError, None]:
        """Events of a live source; for each, in order, its receipt or the error for which it was not taken.

        Never tried again: if it raises, send what has no receipt again, in a new stream or by `submit`."""
        call = requests.stream_feedback(events, timeout_s, self._timeouts.stream_feedback_s)
        async with aclosing(named(self._connections, "feedback").exchange(call)) as answers:
            async for results in answers:
                for result in results:
                    yield result

    async def close(self) -> None:
        for connection in self._connections.values():
            await connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, server: str, call: Call[R]) -> R:
        return await named(self._connections, server).call(call)
