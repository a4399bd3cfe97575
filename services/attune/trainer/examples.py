"""The examples a trainer learns from: kept in memory, split by person, drawn for reward updates.

Every subject has one role for ever, by hash: their feedback trains the reward model that PPO follows, or trains the
gate's reward model, or is held out to judge both. Removals (superseded, erased) take examples out at once. Each drawn
example has a weight, so that no subject's share of a batch exceeds `max_share`.
"""

from __future__ import annotations

import hashlib
import random
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from attune.domain.examples import Example


class Role(StrEnum):
    """What the feedback of a subject is used for."""

    REWARD = "reward"
    GATE = "gate"
    HELD_OUT = "held_out"


@dataclass(frozen=True)
class Split:
    """Shares of the subjects, each in [0, 1]; what is left trains the reward model."""

    gate: float = 0.2
    held_out: float = 0.15

    def role(self, app_id: str, subject_id: str) -> Role:
        """The role of a subject, the same for ever."""
        digest = hashlib.sha256(f"{app_id}\x1f{subject_id}".encode()).digest()
        position = int.from_bytes(digest[:8], "big") / 2**64
        if position < self.held_out:
            return Role.HELD_OUT
        return Role.GATE if position < self.held_out + self.gate else Role.REWARD


class ExampleStore:
    """Live examples by sequence number, bounded to `capacity` newest; `last_sequence` is how far it has read."""

    def __init__(self, split: Split, capacity: int) -> None:
        self._split = split
        self._capacity = capacity
        self._examples: OrderedDict[int, Example] = OrderedDict()
        self.last_sequence = 0
        self.last_removal = 0

    def __len__(self) -> int:
        return len(self._examples)

    def add(self, examples: Iterable[Example]) -> None:
        """Takes examples in the order of their sequence numbers; the oldest leave beyond the capacity."""
        for example in examples:
            self._examples[example.sequence] = example
        while len(self._examples) > self._capacity:
            self._examples.popitem(last=False)

    def remove(self, sequences: Iterable[int]) -> None:
        """Takes out superseded and erased examples."""
        for sequence in sequences:
            self._examples.pop(sequence, None)

    def get(self, sequences: Sequence[int]) -> list[Example]:
        """The examples of these numbers that still count, in the order asked."""
        return [self._examples[s] for s in sequences if s in self._examples]

    def of_role(self, role: Role, *, after: int = 0, up_to: int | None = None) -> list[Example]:
        """Live examples of a role with after < sequence <= up_to, oldest first."""
        end = self.last_sequence if up_to is None else up_to
        return [e for s, e in self._examples.items() if after < s <= end and self.role_of(e) is role]

    def counts(self) -> dict[Role, int]:
        """How many live examples of each role there are."""
        found = dict.fromkeys(Role, 0)
        for example in self._examples.values():
            found[self.role_of(example)] += 1
        return found

    def role_of(self, example: Example) -> Role:
        return self._split.role(example.event.app_id, example.event.subject_id)


@dataclass(frozen=True)
class Draw:
    """What a reward update trains on: batches of sequence numbers, and the weight of each number."""

    batches: tuple[tuple[int, ...], ...]
    weights: dict[int, float]


def draw_batches(
    new: Sequence[Example], old: Sequence[Example], batch_size: int, steps: int, max_share: float, rng: random.Random
) -> Draw:
    """Batches of new examples, each filled up with a replay of old ones; every new example is drawn at least once.

    Half of a batch is new while there are new ones; `steps` grows when the new ones would not fit. Without old ones
    the batches are new alone, and never larger than what there is.
    """
    if not new and not old:
        return Draw((), {})
    per_batch_new = batch_size // 2 if old else batch_size
    steps = max(steps, -(-len(new) // max(per_batch_new, 1)))
    queue = _cycled(list(new), steps * per_batch_new, rng)
    batches = []
    for i in range(steps):
        fresh = list(dict.fromkeys(queue[i * per_batch_new : (i + 1) * per_batch_new]))
        replay = rng.sample(list(old), min(len(old), batch_size - len(fresh)))
        batches.append(tuple(dict.fromkeys(e.sequence for e in [*fresh, *replay])))
    everyone = {e.sequence: e for e in [*new, *old]}
    drawn = {s for batch in batches for s in batch}
    return Draw(tuple(batches), influence_weights([everyone[s] for s in sorted(drawn)], max_share))


def _cycled(items: list[Example], length: int, rng: random.Random) -> list[Example]:
    """The items in shuffled rounds until there are `length` of them; empty stays empty."""
    cycle: list[Example] = []
    while items and len(cycle) < length:
        cycle.extend(rng.sample(items, len(items)))
    return cycle[: max(length, len(items))]


def influence_weights(examples: Sequence[Example], max_share: float) -> dict[int, float]:
    """A weight per example, 1 for most, lowered for those of a subject that has more than `max_share` of the total.

    The cap is relative to the total after capping: heavy subjects are lowered to c = max_share x (weight of all), which
    is solved by lowering the heaviest first. With fewer than 1 / max_share subjects it cannot hold; all then count
    alike, subject by subject.
    """
    counts: dict[tuple[str, str], int] = {}
    for e in examples:
        key = (e.event.app_id, e.event.subject_id)
        counts[key] = counts.get(key, 0) + 1
    cap = capped_mass(list(counts.values()), max_share)
    return {e.sequence: min(1.0, cap / counts[(e.event.app_id, e.event.subject_id)]) for e in examples}


def capped_mass(counts: Sequence[int], max_share: float) -> float:
    """The greatest c with c <= max_share x sum(min(count, c)): what a subject's examples may weigh together."""
    if not counts:
        return 0.0
    if max_share * len(counts) <= 1:
        return float(min(counts))
    ordered = sorted(counts, reverse=True)
    lighter = sum(ordered)
    if ordered[0] <= max_share * lighter:
        return float(ordered[0])
    for heavy, count in enumerate(ordered, start=1):
        lighter -= count
        # `heavy` subjects at the cap: c = share (heavy c + lighter).
        cap = max_share * lighter / (1 - heavy * max_share)
        if ordered[heavy] <= cap:
            return cap
    raise AssertionError("unreachable: with more than 1 / max_share subjects a cap exists")
