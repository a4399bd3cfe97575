"""Links of a step: bounded, of what was traced, and nothing while nothing is."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from attune.domain.examples import Example
from attune.trainer import causes
from attune.trainer.examples import ExampleStore, Split
from support.training import InProcessServers


def traceparent(number: int) -> str:
    return f"00-{number:032x}-{number:016x}-01"


def a_store(tmp_path, traced: range, of: int) -> ExampleStore:
    servers = InProcessServers(None, tmp_path)  # type: ignore[arg-type]  # holds examples, asks no registry
    servers.add_comparisons(of)
    store = ExampleStore(Split(), 10_000)
    store.add(_traced(e) if e.sequence in traced else e for e in servers.examples)
    return store


def _traced(example: Example) -> Example:
    both = traceparent(example.sequence), (traceparent(100_000 + example.sequence),)
    return replace(example, feedback_traceparent=both[0], generation_traceparents=both[1])


def test_the_traces_of_examples_come_event_and_generation_together(tmp_path) -> None:
    store = a_store(tmp_path, range(2, 4), of=5)
    found = causes.of_examples(store, range(1, 6))
    assert found == [traceparent(n) for n in (2, 100_002, 3, 100_003)]


def test_of_many_some_are_taken_evenly(tmp_path) -> None:
    store = a_store(tmp_path, range(1, 1001), of=1000)
    found = causes.of_examples(store, range(1, 1001))
    assert 60 < len(found) <= 2 * causes.MAX_EXAMPLES
    numbers = [int(text.split("-")[1], 16) for text in found[::2]]
    assert len({b - a for a, b in pairwise(numbers)}) == 1


def test_untraced_nothing_is_looked_up() -> None:
    nothing: causes.Workspace = None  # type: ignore[assignment]
    assert causes.of_reward_update(nothing, {}) == causes.of_policy_update(nothing) == causes.of_pending(nothing) == []
