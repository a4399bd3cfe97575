"""What happens before the loop: the texts, the base model, the SFT policy, and the first reward models.

Each step is the stage that everyone runs (attune.trainer.stages), on files in the demo's folder; what is there from a
run before with the same recipe is kept. Examples for the reward models are what the join gathered from live users,
parted by person as the trainer will part them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from attune.domain.examples import Example
from attune.domain.revisions import STABLE, ModelName
from attune.modeling.anchors import Anchor
from attune.modeling.reward_model import load_reward_model
from attune.platform.registry.registry import Registry
from attune.simulation.grammar import demonstrations, pretraining_text
from attune.simulation.recipe import Recipe
from attune.trainer.examples import Role, Split
from attune.trainer.gates import GateVerdict, reward_gate
from attune.trainer.preferences import from_example
from attune.trainer.reward_learner import RewardLearner, RewardSettings
from attune.trainer.stages.export import preference_row
from attune.trainer.stages.pretraining import pretrain
from attune.trainer.stages.reward_model import train_reward_model
from attune.trainer.stages.sft import finetune
from attune.trainer.stages.training import OnProgress, StageResult

POLICY, REWARD, GATE = (
    ModelName("policies", "support"),
    ModelName("rewards", "support"),
    ModelName("rewards", "support-gate"),
)
OWNER = "demo"
ANCHORS = 128

Progress = Callable[[str], OnProgress]
"""Given the name of a stage, what is told about its steps."""


def make_policy(folder: Path, recipe: Recipe, progress: Progress) -> Path:
    """Texts, pretraining and SFT; the folder of the policy that will enter the loop."""
    texts = folder / "texts"
    rng = random.Random(f"{recipe.seed}/texts")
    conversations = texts / "conversations.jsonl"
    _write_once(conversations, lambda: ({"messages": m} for m in pretraining_text(rng, recipe.conversations)))
    shown = texts / "demonstrations.jsonl"
    _write_once(shown, lambda: map(_as_chat, demonstrations(rng, recipe.demonstrations)))
    pretrain(
        [conversations],
        folder / "base",
        recipe.shape,
        recipe.pretraining(),
        vocabulary=recipe.vocabulary,
        sequence_tokens=recipe.sequence_tokens,
        is_packed=False,
        on_progress=progress("pretraining"),
    )
    return finetune([shown], folder / "sft", folder / "base", recipe.sft(), on_progress=progress("SFT")).folder


def publish_policy(registry: Registry, policy: Path) -> int:
    """Publishes the policy that enters the loop and makes it live; its number."""
    epoch = registry.take_epoch([POLICY], OWNER)
    name = POLICY.revision(registry.next_number(POLICY))
    registry.publish(name, policy, epoch=epoch)
    registry.move_alias(POLICY, STABLE, name.number, epoch=epoch, actor=OWNER, reason="enters the loop")
    return name.number


def train_first_rewards(
    folder: Path,
    policy: Path,
    registry: Registry,
    examples: Sequence[Example],
    anchors: Sequence[Anchor],
    split: Split,
    recipe: Recipe,
    progress: Progress,
) -> GateVerdict:
    """The reward model and the gate's, on disjoint people, published; what held-out people say of the reward model.

    Only one that is better than chance becomes stable. Both manifests end their data where the examples end, so that
    the trainer goes on with what comes after.
    """
    by_role: dict[Role, list[Example]] = {role: [] for role in Role}
    for e in examples:
        by_role[split.role(e.event.app_id, e.event.subject_id)].append(e)
    end = max(e.sequence for e in examples)
    held_out = [p for p in map(from_example, by_role[Role.HELD_OUT]) if p.kind == "ranking"]
    epoch = registry.take_epoch([REWARD, GATE], OWNER)
    verdict = GateVerdict(True)
    for model, role in ((GATE, Role.GATE), (REWARD, Role.REWARD)):
        result = _train(folder, policy, model, by_role[role], anchors, recipe, progress)
        learner = RewardLearner(load_reward_model(result.folder), RewardSettings())
        verdict = reward_gate(learner.pair_outcomes(held_out), None)
        name = model.revision(registry.next_number(model))
        metrics = {k: v for k, v in (result.metrics | verdict.figures).items()}
        registry.publish(name, result.folder, epoch=epoch, example_sequence=end, metrics=metrics)
        if model == GATE or verdict.passed:
            reason = "better than chance on held-out people" if verdict.passed else "the gate's first"
            registry.move_alias(model, STABLE, name.number, epoch=epoch, actor=OWNER, reason=reason)
    return verdict


def anchors_of(answers: Iterable[tuple[str, str]], seed: int) -> list[Anchor]:
    """A fixed sample of what the entering policy answered: (prompt, completion) pairs."""
    pairs = sorted(set(answers))
    chosen = random.Random(f"{seed}/anchors").sample(pairs, min(ANCHORS, len(pairs)))
    return [([{"role": "user", "content": prompt}], text) for prompt, text in chosen]


def _train(
    folder: Path,
    policy: Path,
    model: ModelName,
    examples: Sequence[Example],
    anchors: Sequence[Anchor],
    recipe: Recipe,
    progress: Progress,
) -> StageResult:
    data = folder / "texts" / f"{model.model}-rankings.jsonl"
    _write(data, [row for row in map(preference_row, examples) if row is not None])
    return train_reward_model(
        [data],
        folder / model.model,
        policy,
        recipe.reward_model(is_gate=model == GATE),
        anchors=anchors,
        on_progress=progress("reward model" if model == REWARD else "gate's reward model"),
    )


def _as_chat(row: dict[str, str]) -> dict[str, Any]:
    return {"prompt": [{"role": "user", "content": row["prompt"]}], "completion": row["completion"]}


def _write_once(path: Path, rows: Callable[[], Iterable[dict[str, Any]]]) -> None:
    if not path.exists():
        _write(path, rows())


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    partial.replace(path)
