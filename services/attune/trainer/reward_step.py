"""The reward update, in the order of the design: input, update, revision, checkpoint, gate, alias.

New examples are drawn with a replay of old ones; the gate's reward model is updated beside, on its own people. Held-out
feedback judges child against parent before anything moves. Rejected examples are not lost: they stay new until a
promoted revision has seen them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from attune.domain.examples import Example
from attune.platform import tracing
from attune.trainer import causes
from attune.trainer.checkpoint import read_json, write_json
from attune.trainer.examples import Draw, Role, draw_batches
from attune.trainer.gates import CHANCE_ALPHA, GateVerdict, reward_gate, sign_test
from attune.trainer.preferences import Preference, from_example
from attune.trainer.reward_learner import RewardLearner
from attune.trainer.workspace import Workspace


async def run(w: Workspace, step: int) -> None:
    """One reward update, from its saved input if there is one."""
    folder = w.state.input_of(step) or _gather(w, step)
    task = read_json(folder / "input.json")
    with tracing.span("reward update", links=causes.of_reward_update(w, task), attributes={"attune.step": step}):
        await _learn(w, step, task)


async def _learn(w: Workspace, step: int, task: dict[str, Any]) -> None:
    """From the update to the gate."""
    figures, verdict = await w.compute(_update, w, task)
    publish = partial(
        w.publish_reward,
        parent=task["parent"],
        example_sequence=task["example_sequence"],
        step=step,
        metrics=figures,
        details={"new_examples": json.dumps(task["new_examples"])},
    )
    number = await w.publish_numbered("rewards", step, task["number"], publish)
    w.outcomes[number] = w.outcomes.pop(task["number"])
    pending = {
        "kind": "reward",
        "number": number,
        "example_sequence": task["example_sequence"],
        "verdict": {"passed": verdict.passed, "reasons": list(verdict.reasons)},
    }
    trusted = figures["gate_chance_p"] < CHANCE_ALPHA
    facts = w.progress.facts | {
        "attempt_cursor": task["example_sequence"],
        "gate_cursor": task["example_sequence"],
        "gate_is_trusted": trusted,
        "pending": pending,
    }
    w.save(step, ("reward", "gate"), facts)
    w.show(figures)
    await settle(w)


async def settle(w: Workspace) -> None:
    """Lets the gate speak and moves the alias, or restores; safe to do again."""
    pending = w.progress.facts["pending"]
    verdict = GateVerdict(pending["verdict"]["passed"], tuple(pending["verdict"]["reasons"]))
    facts: dict[str, Any] = {}
    if verdict.passed:
        facts = {
            "reward": pending["number"],
            "reward_parent": pending["number"],
            "reward_cursor": pending["example_sequence"],
            "ppo_steps": 0,
        }
    # The gate's model learns from its own people whatever becomes of the other.
    await w.conclude("rewards", pending["number"], verdict, facts, pieces=("reward",), always=("gate",))


def is_due(w: Workspace, now: float) -> bool:
    """Whether a reward update should start: enough new examples, or some that have waited long enough."""
    s = w.settings.reward
    new = w.store.of_role(Role.REWARD, after=w.progress.facts["attempt_cursor"])
    if len(new) >= s.new_examples:
        return True
    return bool(new) and now - w.last_reward_update >= s.interval_s


def _gather(w: Workspace, step: int) -> Path:
    """Chooses examples and writes them down by number: the update trains on these, whatever arrives meanwhile."""
    s, facts = w.settings.reward, w.progress.facts
    end = w.store.last_sequence
    new = w.store.of_role(Role.REWARD, after=facts["reward_cursor"], up_to=end)
    draws = {
        "reward": _draw(w, new, w.store.of_role(Role.REWARD, up_to=facts["reward_cursor"]), step, "reward"),
        "gate": _draw(
            w,
            w.store.of_role(Role.GATE, after=facts["gate_cursor"], up_to=end),
            w.store.of_role(Role.GATE, up_to=facts["gate_cursor"]),
            step,
            "gate",
        ),
    }
    held_out = w.store.of_role(Role.HELD_OUT, up_to=end)[-s.held_out_examples :]
    with w.state.write_input(step) as folder:
        write_json(
            folder / "input.json",
            {
                "kind": "reward",
                "number": w.next_number("rewards"),
                "parent": facts["reward_parent"],
                "example_sequence": end,
                "new_examples": ranges([e.sequence for e in new]),
                "held_out": [e.sequence for e in held_out],
                "draws": {
                    name: {"batches": d.batches, "weights": {str(k): v for k, v in d.weights.items()}}
                    for name, d in draws.items()
                },
            },
        )
    found = w.state.input_of(step)
    assert found is not None
    return found


def _draw(w: Workspace, new: Sequence[Example], old: Sequence[Example], step: int, name: str) -> Draw:
    s = w.settings.reward
    rng = random.Random(f"{w.settings.seed}/{step}/{name}")
    steps = s.steps if name == "reward" else s.gate_steps
    return draw_batches(new, old, s.batch_size, steps, s.max_subject_share, rng)


def _update(w: Workspace, task: dict[str, Any]) -> tuple[dict[str, float], GateVerdict]:
    """All torch work of the step; a pure function of the learners and the task."""
    found = [(e.sequence, from_example(e)) for e in w.store.get(task["held_out"])]
    rankings = {sequence: p for sequence, p in found if p.kind == "ranking" and p.ordered_pairs()}
    learners = w.learners
    parent = _parent_outcomes(w, task["parent"], rankings)
    figures: dict[str, float] = {}
    for name, learner in (("reward", learners.reward), ("gate", learners.gate)):
        draw = task["draws"][name]
        for batch in draw["batches"]:
            preferences = _preferences(w, batch, draw["weights"])
            if preferences:
                figures = {**figures, **_prefixed(learner.update(preferences), name)}
        w.metrics.texts_cut.inc(learner.count_cut())
    figures |= learners.reward.normalise(learners.anchors)
    learners.gate.normalise(learners.anchors)
    child = learners.reward.judged(list(rankings.values()))
    w.outcomes[task["number"]] = dict(zip(rankings, child.outcomes, strict=True))
    verdict = reward_gate(child.outcomes, parent)
    figures |= verdict.figures | {"calibration_error": child.calibration_error}
    return figures | _gate_figures(learners.gate, list(rankings.values())), verdict


def _parent_outcomes(w: Workspace, number: int, rankings: Mapping[int, Preference]) -> list[float]:
    """What the parent makes of each ranking: known from when it was judged itself, or scored now, before the update."""
    known = w.outcomes.get(number, {})
    new = [sequence for sequence in rankings if sequence not in known]
    known = known | dict(zip(new, w.learners.reward.pair_outcomes([rankings[s] for s in new]), strict=True))
    w.outcomes = {number: known}
    return [known[sequence] for sequence in rankings]


def _gate_figures(gate: RewardLearner, rankings: Sequence[Preference]) -> dict[str, float]:
    """How well the gate's own reward model orders held-out feedback."""
    outcomes = gate.pair_outcomes(rankings)
    return {
        "gate_accuracy": sum(outcomes) / max(len(outcomes), 1),
        "gate_chance_p": sign_test(sum(o > 0.5 for o in outcomes), sum(o < 0.5 for o in outcomes)),
    }


def _preferences(w: Workspace, batch: Sequence[int], weights: dict[str, float]) -> list[Preference]:
    """The examples of a batch that still count; erased ones are missing and nothing takes their place."""
    return [from_example(e, weights[str(e.sequence)]) for e in w.store.get(batch)]


def _prefixed(figures: dict[str, float], name: str) -> dict[str, float]:
    return figures if name == "reward" else {f"{name}_{key}": value for key, value in figures.items()}


def ranges(numbers: Sequence[int]) -> list[list[int]]:
    """Sorted numbers as inclusive [first, last] ranges."""
    found: list[list[int]] = []
    for n in numbers:
        if found and n == found[-1][1] + 1:
            found[-1][1] = n
        else:
            found.append([n, n])
    return found
