"""The blocking client: completions, feedback and scores for apps.

    with Client(app_id="shop", policy_address="localhost:7001", feedback_address="localhost:7003") as client:
        result = client.generate("Where is my order?", completions=2, subject_id="ana")
        first, second = result.generation.completions
        client.compare(second, first, subject_id="ana")

Calls have deadlines and are tried again when that is safe. Feedback always is: an event has its id from the start. A
generation tried again gets a new id, for the lost attempt may have been finished and its id used; if the caller chose
the id it is kept, and GenerationIdReused can then mean that the lost attempt was finished.

A client may be shared by threads.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Self, TypeVar, Unpack

from attune.client import requests
from attune.client.access import Access
from attune.client.calls import Call, Connection
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


class Client:
    """Speaks to the servers whose addresses ("host:port") it is given; a method without its server raises
    ConfigurationInvalid. `timeout_s` of a method bounds all its attempts together; absent, `timeouts` does. `access`
    says how the servers are reached and with which key; absent, in the clear and without one."""

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
        self._connections = {name: Connection(address, retry, access) for name, address in addresses.items() if address}

    def wait_until_serving(self, timeout_s: float) -> None:
        """Returns when every server it speaks to is SERVING; ServerUnavailable if one takes longer."""
        for connection in self._connections.values():
            connection.wait_until_serving(timeout_s)

    def generate(self, prompt: PromptLike, **options: Unpack[GenerateOptions]) -> GenerationResult:
        """Writes all completions of a prompt; a string is one user turn."""
        return self._run("policy", requests.generate(self.app_id, prompt, options, self._timeouts.generate_s))

    def stream(
        self, prompt: PromptLike, **options: Unpack[GenerateOptions]
    ) -> Generator[Delta | GenerationResult, None, None]:
        """Deltas as they are written, then the whole result; closing the generator cancels the generation."""
        call = requests.stream(self.app_id, prompt, options, self._timeouts.generate_s)
        return named(self._connections, "policy").stream(call)

    def score(
        self, pairs: Iterable[tuple[PromptLike, str]], *, revision: str = "", timeout_s: float | None = None
    ) -> Scores:
        """Scores pairs of prompt and completion text, all with one reward revision."""
        return self._run("reward", requests.score(pairs, revision, timeout_s, self._timeouts.score_s))

    def rate(self, completion: CompletionLike, value: float, **options: Unpack[FeedbackOptions]) -> Receipt:
        """A number in [0, 1] for one completion; a thumb is 0 or 1."""
        feedback = requests.rating(completion, value)
        return self._run("feedback", requests.give(self.app_id, feedback, options, self._timeouts.feedback_s))

    def compare(self, chosen: CompletionLike, rejected: CompletionLike, **options: Unpack[FeedbackOptions]) -> Receipt:
        """Which of two is better."""
        feedback = requests.comparison(chosen, rejected)
        return self._run("feedback", requests.give(self.app_id, feedback, options, self._timeouts.feedback_s))

    def rank(self, best_to_worst: RankingLike, **options: Unpack[FeedbackOptions]) -> Receipt:
        """An order, best first; a list inside is a tie."""
        feedback = requests.ranking(best_to_worst)
        return self._run("feedback", requests.give(self.app_id, feedback, options, self._timeouts.feedback_s))

    def demonstrate(self, completion: CompletionLike, text: str, **options: Unpack[FeedbackOptions]) -> Receipt:
        """The answer it should have been."""
        feedback = requests.demonstration(completion, text)
        return self._run("feedback", requests.give(self.app_id, feedback, options, self._timeouts.feedback_s))

    def submit(self, event: FeedbackEvent, *, timeout_s: float | None = None) -> Receipt:
        """One event; when this returns, the event log has it for good."""
        return self._run("feedback", requests.submit(event, timeout_s, self._timeouts.feedback_s))

    def ingest(self, events: Iterable[FeedbackEvent], *, timeout_s: float | None = None) -> list[Receipt | AttuneError]:
        """Many events: for each its receipt, or the error for which it was not taken. `timeout_s` for each 1000.

        Raises only if a whole call fails; then all events may be sent again."""
        calls = requests.ingest(events, timeout_s, self._timeouts.feedback_s)
        return [result for call in calls for result in self._run("feedback", call)]

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, server: str, call: Call[R]) -> R:
        return named(self._connections, server).call(call)
