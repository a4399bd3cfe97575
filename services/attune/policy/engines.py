"""What the policy server wants of an engine, whichever it is.

Two there are: the one of this package, on models of transformers (attune.policy.engine), and vLLM's
(attune.policy.vllm.engine).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Protocol

from transformers import PreTrainedTokenizerBase

from attune.domain.generations import Purpose, Sampling
from attune.policy.jobs import Job, Tokens


class Policy(Protocol):
    """What is known of a revision outside its engine; `max_context` is prompt and completion together, in tokens."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...

    @property
    def max_context(self) -> int: ...


class PolicyEngine(Protocol):
    """Make it and `run` it inside one event loop; `generate` from there."""

    @property
    def pause_reason(self) -> str | None:
        """Why nothing is admitted; None while all is."""

    @property
    def queued_completions(self) -> int: ...

    @property
    def running_completions(self) -> int: ...

    def generate(self, job: Job) -> AsyncGenerator[Tokens, None]:
        """Submits a job and yields what it gains until all its completions are done; closing it cancels the rest.

        PromptTooLong, QueueFull; ServerUnavailable if the engine ends meanwhile.
        """

    def check_room(self, policy: Any, sampling: Sampling, purpose: Purpose, deadline: float) -> None:
        """Raises what `generate` would for want of room or time, whatever the prompt; it need not be read for that.

        `policy` is what a job would hold, `deadline` in seconds of the monotonic clock.
        """

    def pause(self, reason: str) -> None:
        """Admits nothing more; what runs goes on."""

    def resume(self) -> None: ...

    async def run(self) -> None:
        """Works until cancelled; raises what the engine failed with. Waiting callers get ServerUnavailable."""
