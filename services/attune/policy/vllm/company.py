"""When a caller is told of vLLM's tokens, as the other engine does it.

A stream is told of the first token at once and of later ones in company; any other caller of all at the end.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from attune.policy.jobs import EngineLimits, Tokens


class Company:
    """The tokens of one job that wait for others. In a stream what another revision wrote goes by itself."""

    def __init__(self, limits: EngineLimits, is_streaming: bool) -> None:
        self._limits = limits
        self._is_streaming = is_streaming
        self._waiting: dict[int, Tokens] = {}
        self._told: dict[int, float] = {}

    def add(self, gained: Tokens) -> Iterator[Tokens]:
        """Takes in what a completion gained; yields what is to be told now, which at its end is all."""
        waiting = self._waiting.pop(gained.index, None)
        if waiting and waiting.revision != gained.revision and self._is_streaming:
            yield waiting
        elif waiting:
            gained = _joined(waiting, gained)
        if self._is_due(gained):
            self._told[gained.index] = time.monotonic()
            yield gained
        else:
            self._waiting[gained.index] = gained

    def _is_due(self, gained: Tokens) -> bool:
        if gained.finish_reason is not None or not self._is_streaming:
            return gained.finish_reason is not None
        told = self._told.get(gained.index)
        is_enough = len(gained.token_ids) >= self._limits.stream_tokens
        return told is None or is_enough or time.monotonic() - told >= self._limits.stream_s


def _joined(first: Tokens, later: Tokens) -> Tokens:
    return replace(later, token_ids=first.token_ids + later.token_ids, logprobs=first.logprobs + later.logprobs)
