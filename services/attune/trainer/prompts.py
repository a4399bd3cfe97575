"""The prompts PPO may use: live user prompts from the join, and an optional file, split before any training.

The split is by hash of the normal form, so that the same question never stands on both sides. The training side is
drawn from for rollouts; the held-out side is what the gate compares revisions on. Bounded: the newest `capacity` count.
"""

from __future__ import annotations

import json
import random
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from attune.api.types.v1 import prompts_pb2
from attune.domain.errors import InvalidInput
from attune.domain.prompts import Prompt, is_held_out


def read_prompts(path: Path) -> list[Prompt]:
    """Prompts of a JSONL file, {"prompt": text or messages} a line; InvalidInput names file and line.

    A text is one user turn."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # splitlines would cut at U+2028, which JSON may hold
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error
    prompts = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            prompts.append(Prompt.from_proto(_as_proto(json.loads(line)["prompt"])))
        except (ValueError, KeyError, TypeError, InvalidInput) as error:
            raise InvalidInput(f'{path}:{number}: expected {{"prompt": text or messages}}: {error}') from None
    return prompts


def _as_proto(value: Any) -> prompts_pb2.Prompt:
    turns = [{"role": "user", "content": value}] if isinstance(value, str) else value
    messages = [prompts_pb2.Message(role=turn["role"], content=turn["content"]) for turn in turns]
    return prompts_pb2.Prompt(conversation=prompts_pb2.Conversation(messages=messages))


class PromptPool:
    """Distinct prompts by hash, in order of arrival."""

    def __init__(self, held_out_share: float, capacity: int, fixed: Sequence[Prompt] = ()) -> None:
        self._share = held_out_share
        self._capacity = capacity
        self._fixed = {p.hash: p for p in fixed}
        self._live: OrderedDict[str, Prompt] = OrderedDict()

    def __len__(self) -> int:
        return len(self._fixed.keys() | self._live.keys())

    def add(self, prompts: Iterable[Prompt]) -> None:
        """Takes prompts in; those known already stay where they were."""
        for prompt in prompts:
            self._live.setdefault(prompt.hash, prompt)
        while len(self._live) > self._capacity:
            self._live.popitem(last=False)

    def replace(self, prompts: Iterable[Prompt]) -> None:
        """Takes the reservoir as it is now, so that erased prompts leave."""
        self._live.clear()
        self.add(prompts)

    def training(self) -> list[Prompt]:
        """Prompts for rollouts, in a stable order."""
        return [p for h, p in self._all() if not is_held_out(h, self._share)]

    def held_out(self, limit: int) -> list[Prompt]:
        """Prompts for the gate: the `limit` smallest hashes, so that the set changes as little as it can."""
        held_out = [(h, p) for h, p in self._all() if is_held_out(h, self._share)]
        return [p for _, p in sorted(held_out, key=lambda item: item[0])[:limit]]

    def draw(self, n: int, rng: random.Random) -> list[Prompt]:
        """n training prompts, none twice while there are enough. ValueError when there are none."""
        prompts = self.training()
        if not prompts:
            raise ValueError("there are no training prompts yet")
        drawn: list[Prompt] = []
        while len(drawn) < n:
            drawn.extend(rng.sample(prompts, min(len(prompts), n - len(drawn))))
        return drawn

    def _all(self) -> list[tuple[str, Prompt]]:
        return [*self._fixed.items(), *((h, p) for h, p in self._live.items() if h not in self._fixed)]
