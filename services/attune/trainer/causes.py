"""What had caused a step, as links of its span: from a revision to the feedback and the generations behind it.

A reward update links to where the examples it draws were traced, a PPO step to the update of the reward revision that
it follows and to the examples that were new to that. A revision's manifest names the span of its step, under
`details["traceparent"]`. Of many examples some are taken, evenly. Nothing is looked up while nothing is traced.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from opentelemetry.trace import Link

from attune.domain.revisions import Kind, RevisionName
from attune.platform import tracing
from attune.trainer.examples import ExampleStore
from attune.trainer.workspace import TRACEPARENT, Workspace

MAX_EXAMPLES = tracing.MAX_LINKS // 2 - 1
"""An example has two traces as a rule, its event's and its generation's."""


def of_reward_update(w: Workspace, task: Mapping[str, Any]) -> list[Link]:
    """What the update of a saved input draws; the new examples first."""
    if not tracing.is_on():
        return []
    new = set(_sequences(task["new_examples"]))
    drawn = dict.fromkeys(chain.from_iterable(task["draws"]["reward"]["batches"]))
    return tracing.links_to(of_examples(w.store, [s for s in drawn if s in new] or list(drawn)))


def of_policy_update(w: Workspace) -> list[Link]:
    """What made the reward revision that PPO follows now."""
    if not tracing.is_on() or not w.progress.facts["reward"]:
        return []
    details = _details(w, w.revision("rewards", w.progress.facts["reward"]))
    new = _sequences(json.loads(details.get("new_examples", "[]")))
    return tracing.links_to([details.get(TRACEPARENT, ""), *of_examples(w.store, new)])


def of_pending(w: Workspace) -> list[Link]:
    """The step whose gate has not spoken."""
    if not tracing.is_on():
        return []
    pending = w.progress.facts["pending"]
    kind: Kind = "policies" if pending["kind"] == "policy" else "rewards"
    return tracing.links_to([_details(w, w.revision(kind, pending["number"])).get(TRACEPARENT, "")])


def of_examples(store: ExampleStore, sequences: Sequence[int]) -> list[str]:
    """Traceparents of these examples, of at most MAX_EXAMPLES of those that were traced."""
    traced = [example.traceparents for example in store.get(sequences) if example.traceparents]
    stride = max(1, -(-len(traced) // MAX_EXAMPLES))
    return list(chain.from_iterable(traced[::stride]))


def _sequences(ranges: Sequence[Sequence[int]]) -> list[int]:
    return [sequence for first, last in ranges for sequence in range(first, last + 1)]


def _details(w: Workspace, name: RevisionName) -> Mapping[str, str]:
    return w.registry.manifest(name).details
