"""Aliases: the highest record counts, and no deposed trainer moves one, wherever it was paused."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import pytest
from attune.domain.errors import AlreadyPublished, EpochSuperseded, InvalidInput
from attune.domain.revisions import ALIASES, AliasRecord, ModelName
from attune.platform.registry.aliases import Aliases
from attune.platform.registry.epochs import Epochs
from attune.platform.registry.storage import Storage


class Line:
    """Aliases and epochs on one storage, with the take-over that the registry does."""

    def __init__(self, storage: Storage, model: ModelName) -> None:
        self.storage, self.model = storage, model
        self.epochs = Epochs(storage)
        self.aliases = Aliases(storage, self.epochs)

    def take(self, owner: str = "trainer") -> int:
        epoch = self.epochs.take([self.model], owner)
        self.aliases.affirm(self.model, epoch, owner)
        return epoch

    def move(self, number: int, epoch: int, alias: str = "stable", **more: Any) -> AliasRecord:
        return self.aliases.move(self.model, alias, number, epoch=epoch, actor="trainer", reason="", **more)

    def number(self, alias: str = "stable") -> int | None:
        head = self.aliases.head(self.model, alias)
        return head.number if head else None


class InterruptedStorage(Storage):
    """Storage whose user is paused before its n-th operation, while something else happens."""

    def __init__(self, url: str, before: int, meanwhile: Callable[[], None]) -> None:
        super().__init__(url)
        self.before, self.meanwhile, self.operations = before, meanwhile, 0

    def _step(self) -> None:
        self.operations += 1
        if self.operations == self.before:
            self.meanwhile()

    def create(self, path: str, data: bytes) -> bool:
        self._step()
        return super().create(path, data)

    def read(self, path: str) -> bytes:
        self._step()
        return super().read(path)

    def names(self, folder: str) -> list[str]:
        self._step()
        return super().names(folder)


@pytest.fixture
def line(url: str, model: ModelName) -> Line:
    return Line(Storage(url), model)


def test_an_alias_never_set_points_at_nothing(line: Line) -> None:
    assert [line.number(alias) for alias in ALIASES] == [None, None, None]
    line.take()
    assert [line.number(alias) for alias in ALIASES] == [None, None, None]


def test_moves_follow_each_other_and_history_is_kept(line: Line) -> None:
    epoch = line.take()
    for number in (1, 2, 3):
        line.move(number, epoch)
    head = line.aliases.head(line.model, "stable")
    assert (head.number, head.previous, head.position) == (3, 2, (epoch, 4))
    assert [r.number for r in line.aliases.history(line.model, "stable")] == [3, 2, 1, 0]
    assert line.number("canary") is None


def test_ten_moves_sort_by_number_not_by_text(line: Line) -> None:
    for _ in range(3):
        epoch = line.take()
    for number in range(1, 13):
        line.move(number, epoch)
    assert line.number() == 12
    for _ in range(9):
        epoch = line.take()
    assert (epoch, line.number()) == (12, 12)


def test_a_new_epoch_affirms_and_keeps_where_a_rollback_leads(line: Line) -> None:
    first = line.take()
    line.move(1, first)
    line.move(2, first)
    second = line.take()
    line.take()
    head = line.aliases.head(line.model, "stable")
    assert (head.number, head.previous, head.position) == (2, 1, (3, 1))
    with pytest.raises(EpochSuperseded):
        line.move(3, second)


def test_moving_to_where_it_is_keeps_the_previous(line: Line) -> None:
    epoch = line.take()
    for number in (1, 2, 2):
        line.move(number, epoch)
    assert line.aliases.head(line.model, "stable").previous == 1


def test_a_move_may_ask_for_where_the_alias_must_be(line: Line) -> None:
    epoch = line.take()
    with pytest.raises(AlreadyPublished):
        line.move(1, epoch, expected=7)
    line.move(1, epoch, expected=0)
    with pytest.raises(AlreadyPublished):
        line.move(2, epoch, expected=0)
    line.move(2, epoch, expected=1)
    assert line.number() == 2


def test_unknown_aliases_are_refused(line: Line) -> None:
    epoch = line.take()
    with pytest.raises(InvalidInput):
        line.move(1, epoch, alias="newest")
    with pytest.raises(InvalidInput):
        line.number("../stable")


def test_a_deposed_trainer_writes_nothing(line: Line) -> None:
    old = line.take("old")
    line.move(1, old)
    line.take("new")
    before = line.storage.files(str(line.model))
    with pytest.raises(EpochSuperseded):
        line.move(2, old)
    assert line.storage.files(str(line.model)) == before


def test_an_epoch_that_was_never_taken_moves_nothing(line: Line) -> None:
    with pytest.raises(InvalidInput):
        line.move(1, 1)
    assert line.storage.files(str(line.model)) == []


@pytest.mark.parametrize("content", [b"", b"{", b'{"alias": "stable"}', b"\xff\xfe", b"[]"])
def test_a_torn_file_is_ignored_and_counted_and_its_number_used_up(line: Line, content: bytes) -> None:
    epoch = line.take()
    line.move(1, epoch)
    line.storage.create(f"{line.model}/aliases/stable/{epoch}-3.json", content)
    assert line.number() == 1
    assert line.number() == 1
    assert len(line.aliases.torn_files) == 1
    assert line.move(2, epoch).position == (epoch, 4)
    assert line.number() == 2


def test_a_record_under_another_name_does_not_count(line: Line) -> None:
    epoch = line.take()
    record = line.move(1, epoch)
    line.move(2, epoch)
    line.storage.create(f"{line.model}/aliases/stable/9-9.json", record.to_json())
    assert line.number() == 2
    assert len(line.aliases.torn_files) == 1


def test_files_that_are_no_records_are_not_read(line: Line) -> None:
    epoch = line.take()
    line.move(1, epoch)
    for name in ("README", ".9-9.json.tmp", "9-9.json.bak", "9.json", "-9-9.json"):
        line.storage.create(f"{line.model}/aliases/stable/{name}", b"{}")
    assert line.number() == 1
    assert not line.aliases.torn_files


ALIASES_TO_MOVE = pytest.mark.parametrize("alias", ["stable", "canary"])


@ALIASES_TO_MOVE
def test_a_trainer_paused_anywhere_in_a_move_cannot_undo_the_take_over(url: str, model: ModelName, alias: str) -> None:
    """`stable` was set before, `canary` never: both must hold."""
    for before in range(1, 100):
        line = Line(Storage(f"{url}/{before}"), model)
        old_epoch = line.take("old")
        line.move(1, old_epoch, "stable")
        seen: list[int | None] = []

        def take_over(line: Line = line, seen: list[int | None] = seen) -> None:
            line.take("new")
            seen.append(line.number(alias))

        old = Line(InterruptedStorage(f"{url}/{before}", before, take_over), model)
        returned = True
        try:
            old.move(2, old_epoch, alias)
        except EpochSuperseded:
            returned = False
        if not seen:
            assert returned
            assert before > 4
            return
        # What the new leader saw when it had taken over is what stays.
        assert line.number(alias) == seen[0], f"paused before operation {before}"
        assert not returned or seen[0] == 2
    raise AssertionError("a move has no end")


@ALIASES_TO_MOVE
def test_a_move_during_a_take_over_is_kept_or_its_trainer_is_told(url: str, model: ModelName, alias: str) -> None:
    for before in range(1, 100):
        line = Line(Storage(f"{url}/{before}"), model)
        old_epoch = line.take("old")
        line.move(1, old_epoch, "stable")
        outcome: list[str] = []

        def move(line: Line = line, outcome: list[str] = outcome, old_epoch: int = old_epoch) -> None:
            try:
                line.move(2, old_epoch, alias)
                outcome.append("moved")
            except EpochSuperseded:
                outcome.append("told")

        new = Line(InterruptedStorage(f"{url}/{before}", before, move), model)
        new_epoch = new.take("new")
        if not outcome:
            assert before > 8
            return
        assert line.number(alias) == (2 if outcome == ["moved"] else {"stable": 1}.get(alias))
        assert line.aliases.history(model, alias)[0].epoch == new_epoch
    raise AssertionError("a take-over has no end")


def test_threads_of_one_trainer_may_move_at_once(url: str, model: ModelName) -> None:
    line = Line(Storage(url), model)
    epoch = line.take()
    positions: list[tuple[int, int]] = []

    def move(first: int) -> None:
        own = Line(Storage(url), model)
        positions.extend(own.move(first + turn, epoch).position for turn in range(10))

    threads = [threading.Thread(target=move, args=(100 * index,)) for index in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(positions) == [(epoch, sequence) for sequence in range(2, 42)]
    assert len(line.aliases.history(model, "stable")) == 41


MOVE_FOREVER = """
    import sys
    from attune.domain.errors import EpochSuperseded
    from attune.domain.revisions import ModelName
    from attune.platform.registry.aliases import Aliases
    from attune.platform.registry.epochs import Epochs
    from attune.platform.registry.storage import Storage
    storage = Storage(sys.argv[1])
    epochs = Epochs(storage)
    aliases = Aliases(storage, epochs)
    model = ModelName("policies", "support")
    epoch = epochs.take([model], "old")
    aliases.affirm(model, epoch, "old")
    number = 0
    try:
        while True:
            number += 1
            aliases.move(model, "stable", number, epoch=epoch, actor="old", reason="")
            print(number, flush=True)
    except EpochSuperseded:
        print("superseded", flush=True)
"""


def test_a_real_process_stopped_at_random_is_deposed(url: str, model: ModelName) -> None:
    line = Line(Storage(url), model)
    command = [sys.executable, "-c", textwrap.dedent(MOVE_FOREVER), url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        for _ in range(30):
            last = int(child.stdout.readline())
        child.send_signal(signal.SIGSTOP)
        epoch = line.take("new")
        affirmed = line.number()
        child.send_signal(signal.SIGCONT)
        *moved, end = child.stdout.read().split()
        assert (child.wait(), end) == (0, "superseded")
    assert max([last, *map(int, moved)]) <= affirmed
    assert line.number() == affirmed
    assert line.aliases.head(model, "stable").epoch == epoch
