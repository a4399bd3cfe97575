"""Freshness: lineage walks, promotion, and each example observed once."""

from __future__ import annotations

from pathlib import Path

import pytest
from attune.domain.errors import RegistryCorrupt
from attune.domain.revisions import ModelName, RevisionName
from attune.feedback.join.freshness import Freshness, example_ranges, newly_served
from attune.feedback.join.store import Store
from attune.platform.registry.registry import Registry
from feedback_samples import NOON_S, Script, a_generation, an_event
from sqlalchemy import Engine

POLICY, REWARD = ModelName("policies", "support"), ModelName("rewards", "support")


class Shop:
    """A registry with a trainer that publishes, and the clock of its promotions."""

    def __init__(self, folder: Path) -> None:
        self.now = NOON_S
        self.registry = Registry(folder / "registry", clock=lambda: self.now)
        self.weights = folder / "weights"
        self.weights.mkdir()
        (self.weights / "model.safetensors").write_bytes(b"weights")
        self.epoch = self.registry.take_epoch([POLICY, REWARD], "trainer")

    def reward(self, number: int, new_examples: str, parent: int | None = None) -> None:
        details = {"new_examples": new_examples}
        self.registry.publish(REWARD.revision(number), self.weights, epoch=self.epoch, parent=parent, details=details)

    def policy(self, number: int, reward: int | None, parent: int | None = None) -> None:
        revision = None if reward is None else str(REWARD.revision(reward))
        self.registry.publish(
            POLICY.revision(number), self.weights, epoch=self.epoch, parent=parent, reward_revision=revision
        )

    def promote(self, number: int, at_s: float) -> None:
        self.now = NOON_S + at_s
        self.registry.move_alias(POLICY, "stable", number, epoch=self.epoch, actor="test", reason="was better")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.fixture
def observed() -> list[float]:
    return []


@pytest.fixture
def freshness(engine: Engine, shop: Shop, observed: list[float]) -> Freshness:
    return Freshness(engine, shop.registry, observed.append)


def commit_examples(store: Store, times_s: list[float]) -> Script:
    script = Script()
    store.commit([script.generation(a_generation(1, revision="policies/base/revisions/1"), at_s=0)], [])
    for number, at_s in enumerate(times_s):
        store.commit([script.event(an_event(number, subject_id=f"person {number}"), at_s=at_s)], [])
    return script


def serve(store: Store, script: Script, policy: int, at_s: float) -> None:
    name = f"policies/support/revisions/{policy}"
    store.commit([script.generation(a_generation(500 + policy, revision=name), at_s=at_s)], [])


def test_each_drawn_example_is_observed_at_the_first_answer(
    store: Store, shop: Shop, freshness: Freshness, observed: list[float]
) -> None:
    script = commit_examples(store, [1, 2, 3, 4])
    shop.policy(1, None)
    shop.reward(1, "[]")
    shop.reward(2, "[[1, 2], [4, 4]]", parent=1)
    shop.policy(2, 2, parent=1)
    shop.promote(2, at_s=5)
    serve(store, script, 2, at_s=9)
    assert freshness.follow_up() == 3
    assert sorted(observed) == [5, 7, 8]
    serve(store, script, 2, at_s=20)
    assert freshness.follow_up() == 0


def test_a_policy_counts_from_its_promotion(
    store: Store, shop: Shop, freshness: Freshness, observed: list[float]
) -> None:
    script = commit_examples(store, [1])
    shop.reward(1, "[[1, 1]]")
    shop.policy(1, 1)
    serve(store, script, 1, at_s=4)
    assert freshness.follow_up() == 0
    shop.promote(1, at_s=31)
    assert freshness.follow_up() == 1
    assert observed == [30]


def test_a_restart_does_not_count_twice(
    store: Store, engine: Engine, shop: Shop, freshness: Freshness, observed: list[float]
) -> None:
    script = commit_examples(store, [1, 2])
    shop.reward(1, "[[1, 1]]")
    shop.policy(1, 1)
    shop.promote(1, at_s=3)
    serve(store, script, 1, at_s=4)
    freshness.follow_up()
    shop.reward(2, "[[2, 2]]", parent=1)
    shop.policy(2, 2, parent=1)
    shop.promote(2, at_s=6)
    serve(store, script, 2, at_s=10)
    again = Freshness(engine, shop.registry, observed.append)
    assert again.follow_up() == 1
    assert observed == [3, 8]


def test_rewards_of_skipped_policies_are_served_by_the_next_one(
    store: Store, shop: Shop, freshness: Freshness, observed: list[float]
) -> None:
    script = commit_examples(store, [1, 2, 3])
    for number in (1, 2, 3):
        shop.reward(number, f"[[{number}, {number}]]", parent=number - 1 or None)
    shop.policy(1, 1)
    shop.policy(2, 3, parent=1)
    shop.promote(2, at_s=4)
    serve(store, script, 2, at_s=11)
    assert freshness.follow_up() == 3
    assert sorted(observed) == [8, 9, 10]


def test_a_revision_that_is_not_in_the_registry_is_let_be(
    store: Store, freshness: Freshness, observed: list[float]
) -> None:
    script = commit_examples(store, [1])
    serve(store, script, 77, at_s=2)
    store.commit([script.generation(a_generation(900, revision="someone else's model"), at_s=3)], [])
    assert freshness.follow_up() == 0
    assert observed == []


def test_a_broken_manifest_leaves_its_policy_for_later(
    store: Store, shop: Shop, freshness: Freshness, observed: list[float]
) -> None:
    script = commit_examples(store, [1])
    shop.reward(1, "[[1")
    shop.policy(1, 1)
    shop.promote(1, at_s=2)
    serve(store, script, 1, at_s=3)
    assert freshness.follow_up() == 0


def test_a_known_ancestor_ends_the_walk(shop: Shop) -> None:
    asked: list[RevisionName] = []
    shop.reward(1, "[[1, 1]]")
    shop.reward(2, "[[2, 2]]", parent=1)
    shop.policy(2, 2)

    def manifest_of(name: RevisionName):  # type: ignore[no-untyped-def]
        asked.append(name)
        return shop.registry.manifest(name)

    found = newly_served(POLICY.revision(2), manifest_of, [REWARD.revision(1)])
    assert [(served.revision.number, served.new_examples) for served in found] == [(2, ((2, 2),))]
    assert REWARD.revision(1) not in asked


@pytest.mark.parametrize("text", ["7", "[1]", "[[1,2,3]]", '[["a","b"]]', "[[0,1]]", "nonsense"])
def test_ranges_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(RegistryCorrupt):
        example_ranges({"new_examples": text})


def test_a_revision_without_ranges_brought_nothing() -> None:
    assert example_ranges({}) == ()
