"""Loaded revisions: swaps, refusals, what stays in memory, and what a request gets."""

from __future__ import annotations

import threading

import pytest
from attune.domain.errors import (
    CheckpointRefused,
    EpochSuperseded,
    NoRevision,
    RegistryUnavailable,
    RevisionNotLoaded,
    RevisionUnknown,
)
from attune.modeling.revisions import Held, LoadedRevisions, publishing

MODEL = "policies/support"


def name(number: int) -> str:
    return f"{MODEL}/revisions/{number}"


class Shelf:
    """A registry in a set; a loaded model is its name in capitals."""

    def __init__(self, numbers: range = range(1, 10)) -> None:
        self.present = {name(n) for n in numbers}
        self.bad: set[str] = set()
        self.is_away = False
        self.loads: list[str] = []

    def load(self, revision: str) -> str:
        self.loads.append(revision)
        if self.is_away:
            raise RegistryUnavailable("away")
        if revision not in self.present:
            raise RevisionUnknown("absent")
        if revision in self.bad:
            raise CheckpointRefused("truncated")
        return revision.upper()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def revisions(shelf: Shelf) -> LoadedRevisions[str]:
    return LoadedRevisions(MODEL, shelf.load, shelf.present.__contains__)


def test_nothing_is_live_at_first(revisions: LoadedRevisions[str]) -> None:
    assert revisions.live == ""
    for asked in ("", "stable"):
        with pytest.raises(NoRevision, match="publish it: attune sft --publish policies/"):
            revisions.get(asked)


@pytest.mark.parametrize(
    ("model", "command"),
    [
        ("policies/a", "attune sft --publish policies/a"),
        ("rewards/a-gate", "attune reward-model --publish rewards/a-gate"),
    ],
)
def test_the_command_that_publishes_is_the_stage_of_the_kind(model: str, command: str) -> None:
    assert publishing(model) == command


def test_stable_makes_weights_live_and_keeps_the_previous(revisions: LoadedRevisions[str], shelf: Shelf) -> None:
    assert revisions.follow("stable", name(1)).outcome == "swapped"
    assert revisions.follow("stable", name(1)).outcome == "unchanged"
    before = revisions.get()
    revisions.follow("stable", name(2))
    assert (before.name, before.model) == (name(1), name(1).upper())
    assert revisions.get().model == name(2).upper()
    assert revisions.names == (name(1), name(2))
    assert revisions.aliases == {"stable": name(2)}
    revisions.follow("stable", name(3))
    assert revisions.names == (name(2), name(3))
    assert shelf.loads == [name(1), name(2), name(3)]


@pytest.mark.parametrize("asked", ["", "stable", "1", name(1)])
def test_a_request_names_a_revision_in_any_form(revisions: LoadedRevisions[str], asked: str) -> None:
    revisions.follow("stable", name(1))
    assert revisions.get(asked).name == name(1)


def test_a_bad_checkpoint_is_refused_while_the_old_one_serves(revisions: LoadedRevisions[str], shelf: Shelf) -> None:
    revisions.follow("stable", name(1))
    shelf.bad.add(name(2))
    refused = revisions.follow("stable", name(2))
    assert refused.outcome == "refused"
    assert isinstance(refused.error, CheckpointRefused)
    assert revisions.live == name(1)
    assert revisions.names == (name(1),)
    with pytest.raises(CheckpointRefused):
        revisions.preload(name(2))
    assert revisions.names == (name(1),)


def test_preloading_makes_nothing_live_and_spares_the_swap_a_load(
    revisions: LoadedRevisions[str], shelf: Shelf
) -> None:
    revisions.follow("stable", name(1))
    assert revisions.preload("2") > 0
    assert revisions.preload(name(2)) == 0
    assert revisions.live == name(1)
    assert revisions.get("2").name == name(2)
    assert revisions.follow("stable", name(2)).load_s == 0
    assert shelf.loads == [name(1), name(2)]


def test_only_the_last_preloaded_one_stays(revisions: LoadedRevisions[str]) -> None:
    revisions.follow("stable", name(1))
    revisions.preload(name(2))
    revisions.preload(name(3))
    assert revisions.names == (name(1), name(3))


def test_a_canary_stays_beside_stable(revisions: LoadedRevisions[str]) -> None:
    revisions.follow("stable", name(1))
    revisions.follow("canary", name(4))
    revisions.follow("stable", name(2))
    revisions.follow("stable", name(3))
    assert revisions.get("canary").name == name(4)
    assert set(revisions.names) == {name(2), name(3), name(4)}


def test_unknown_and_not_loaded_are_different_errors(revisions: LoadedRevisions[str]) -> None:
    revisions.follow("stable", name(1))
    with pytest.raises(RevisionNotLoaded) as not_loaded:
        revisions.get("5")
    assert not_loaded.value.metadata == {"revision": name(5), "loaded": name(1)}
    for asked in ("99", "canary", "newest", "policies/other/revisions/1", "²", "-1"):
        with pytest.raises(RevisionUnknown):
            revisions.get(asked)


def test_a_registry_that_is_away_refuses_no_revision(revisions: LoadedRevisions[str], shelf: Shelf) -> None:
    revisions.follow("stable", name(1))
    shelf.is_away = True
    with pytest.raises(RegistryUnavailable):
        revisions.follow("stable", name(2))
    assert revisions.live == name(1)
    shelf.is_away = False
    assert revisions.follow("stable", name(2)).outcome == "swapped"


def test_a_deposed_trainer_is_refused(revisions: LoadedRevisions[str]) -> None:
    revisions.preload(name(1), epoch=3)
    with pytest.raises(EpochSuperseded):
        revisions.preload(name(2), epoch=2)
    revisions.preload(name(2), epoch=0)
    revisions.preload(name(3), epoch=3)
    assert revisions.epoch == 3


def test_requests_are_answered_while_a_revision_loads() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def load(revision: str) -> str:
        if revision == name(2):
            begun.set()
            assert may_end.wait(10)
        return revision

    revisions = LoadedRevisions(MODEL, load, lambda _: True)
    revisions.follow("stable", name(1))
    thread = threading.Thread(target=revisions.follow, args=("stable", name(2)))
    thread.start()
    assert begun.wait(10)
    assert revisions.get().name == name(1)
    may_end.set()
    thread.join(10)
    assert revisions.get().name == name(2)


class Engine:
    """Holds one model; refuses what it is told to."""

    def __init__(self) -> None:
        self.held = ""
        self.refuses: set[str] = set()

    def activate(self, held: Held[str]) -> None:
        if held.name in self.refuses:
            raise CheckpointRefused("of another shape")
        self.held = held.model


def test_with_one_at_a_time_only_the_live_one_is_there(shelf: Shelf) -> None:
    engine = Engine()
    revisions = LoadedRevisions(MODEL, shelf.load, shelf.present.__contains__, engine.activate)
    revisions.follow("stable", name(1))
    revisions.follow("canary", name(2))
    revisions.preload(name(3))
    assert (engine.held, revisions.names, revisions.aliases) == (name(1).upper(), (name(1),), {"stable": name(1)})
    assert revisions.get("1") == revisions.get("stable") == revisions.get(name(1))
    for asked in ("canary", "2", "3", name(3), "4"):
        with pytest.raises(RevisionNotLoaded, match="one revision at a time"):
            revisions.get(asked)
    with pytest.raises(RevisionUnknown):
        revisions.get("77")
    revisions.follow("stable", name(2))
    assert (engine.held, revisions.get("canary").name) == (name(2).upper(), name(2))


def test_what_the_engine_refuses_does_not_go_live_and_the_one_before_needs_no_loading(shelf: Shelf) -> None:
    engine = Engine()
    engine.refuses.add(name(2))
    revisions = LoadedRevisions(MODEL, shelf.load, shelf.present.__contains__, engine.activate)
    revisions.follow("stable", name(1))
    assert revisions.follow("stable", name(2)).outcome == "refused"
    assert (revisions.live, engine.held) == (name(1), name(1).upper())
    revisions.follow("stable", name(3))
    revisions.follow("stable", name(1))
    assert (engine.held, shelf.loads.count(name(1))) == (name(1).upper(), 1)
