"""Before the loop, on a recipe of seconds: stages, publication, and people parted as the trainer will part them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from attune.domain.examples import Example, ExampleCompletion
from attune.domain.feedback import Comparison, FeedbackEvent
from attune.domain.ids import uuid7
from attune.domain.prompts import Prompt
from attune.modeling.loading import PolicyShape
from attune.platform.registry.registry import Registry
from attune.simulation.preparation import (
    GATE,
    POLICY,
    REWARD,
    anchors_of,
    make_policy,
    publish_policy,
    train_first_rewards,
)
from attune.simulation.recipe import Recipe
from attune.trainer.examples import Role, Split

TINY = replace(
    Recipe(), shape=PolicyShape("llama", 1, 32, 2, mlp_width=48, context=192), vocabulary=400, conversations=200,
    demonstrations=60, pretraining_steps=2, sft_steps=2, reward_epochs=8.0,
)  # fmt: skip


def silent(name: str) -> Callable:
    return lambda progress: None


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make_policy(folder, TINY, silent)
    return folder


def examples(n: int, choose: Callable[[int], bool]) -> list[Example]:
    """Comparisons of "Hello." with "Stop asking me." by many people; `choose` says who is for the first."""
    made = []
    for i in range(1, n + 1):
        g = uuid7()
        a, b = f"{g}/0", f"{g}/1"
        event = FeedbackEvent(uuid7(), "demo", f"user-{i % 150}", Comparison(a, b) if choose(i) else Comparison(b, a))
        texts = {a: "Hello. I will refund you today.", b: "Stop asking me."}
        completions = tuple(ExampleCompletion(c, texts[c], "") for c in event.feedback.completion_ids)
        made.append(Example(i, Prompt.user(f"Where is order {i}?"), completions, event, 1.0, 1.0))
    return made


def test_what_is_made_is_kept(models: Path) -> None:
    before = (models / "sft" / "model.safetensors").stat().st_mtime_ns
    assert make_policy(models, TINY, silent) == models / "sft"
    assert (models / "sft" / "model.safetensors").stat().st_mtime_ns == before
    line = json.loads((models / "texts" / "conversations.jsonl").read_text().splitlines()[0])
    assert [m["role"] for m in line["messages"]] == ["user", "assistant"]


def first_rewards(models: Path, folder: Path, made: list[Example]):
    registry = Registry(folder / "registry")
    number = publish_policy(registry, models / "sft")
    assert registry.resolve(POLICY, "stable").number == number == 1
    anchors = anchors_of([("Where is it?", f"Hello {i}.") for i in range(40)], 0)
    verdict = train_first_rewards(folder, models / "sft", registry, made, anchors, Split(0.25, 0.15), TINY, silent)
    return registry, verdict


def test_people_are_parted_and_the_data_ends_where_it_ends(models: Path, tmp_path: Path) -> None:
    made = examples(500, lambda i: True)
    registry, verdict = first_rewards(models, tmp_path, made)
    assert verdict.passed
    for model in (REWARD, GATE):
        assert registry.resolve(model, "stable").number == 1
        assert registry.manifest(model.revision(1)).example_sequence == 500
    rows = {m: (tmp_path / "texts" / f"{m.model}-rankings.jsonl").read_text().splitlines() for m in (REWARD, GATE)}
    split = Split(0.25, 0.15)
    for model, role in ((REWARD, Role.REWARD), (GATE, Role.GATE)):
        assert len(rows[model]) == sum(split.role("demo", e.event.subject_id) is role for e in made)
    assert not {*rows[REWARD]} & {*rows[GATE]}


def test_without_a_signal_nothing_becomes_stable(models: Path, tmp_path: Path) -> None:
    coin = random.Random(3)
    registry, verdict = first_rewards(models, tmp_path, examples(300, lambda i: coin.random() < 0.5))
    assert not verdict.passed
    assert registry.alias(REWARD, "stable") is None
    assert registry.resolve(REWARD, "latest").number == 1


def test_anchors_are_a_fixed_sample_in_chat_form() -> None:
    answers = [(f"p{i}", f"a{i}") for i in range(500)]
    chosen = anchors_of(answers, 1)
    assert chosen == anchors_of(reversed(answers), 1) != anchors_of(answers, 2)
    assert len(chosen) == 128
    assert chosen[0][0][0]["role"] == "user"
