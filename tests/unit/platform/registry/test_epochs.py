"""Epochs: each number has one taker, and the highest leads."""

from __future__ import annotations

import threading

import pytest
from attune.domain.errors import ConfigurationInvalid, EpochSuperseded, InvalidInput
from attune.domain.revisions import ModelName
from attune.platform.registry.epochs import Epochs
from attune.platform.registry.storage import Storage

POLICY, REWARD = ModelName("policies", "support"), ModelName("rewards", "support")


@pytest.fixture
def epochs(url: str) -> Epochs:
    return Epochs(Storage(url))


def test_epochs_count_up(epochs: Epochs) -> None:
    assert epochs.newest(POLICY) == 0
    assert [epochs.take([POLICY], "me"), epochs.take([POLICY], "me")] == [1, 2]
    assert epochs.newest(POLICY) == 2
    assert epochs.newest(REWARD) == 0


def test_one_number_holds_for_all_models_taken(epochs: Epochs) -> None:
    epochs.take([REWARD], "me")
    epochs.take([REWARD], "me")
    assert epochs.take([POLICY, REWARD, POLICY], "me") == 3
    assert epochs.newest(POLICY) == epochs.newest(REWARD) == 3


def test_only_the_newest_epoch_passes(epochs: Epochs) -> None:
    old, new = epochs.take([POLICY], "old"), epochs.take([POLICY], "new")
    epochs.check(POLICY, new)
    with pytest.raises(EpochSuperseded) as caught:
        epochs.check(POLICY, old)
    assert caught.value.metadata == {"epoch": "1", "newest_epoch": "2"}
    with pytest.raises(InvalidInput):
        epochs.check(POLICY, 3)
    with pytest.raises(InvalidInput):
        epochs.check(REWARD, 0)


def test_takers_at_once_never_share_a_number(url: str) -> None:
    barrier = threading.Barrier(6)
    taken: list[int] = []
    superseded: list[EpochSuperseded] = []

    def take(name: str) -> None:
        epochs = Epochs(Storage(url))
        barrier.wait()
        for _ in range(5):
            try:
                taken.append(epochs.take([POLICY, REWARD], name))
            except EpochSuperseded as error:
                superseded.append(error)

    threads = [threading.Thread(target=take, args=(f"trainer {index}",)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken))
    assert len(taken) + len(superseded) == 30
    # Whoever holds the newest number holds it for both.
    epochs = Epochs(Storage(url))
    assert epochs.newest(POLICY) == epochs.newest(REWARD) == max(taken)


class CarelessStorage(Storage):
    """Storage that overwrites what should be created once, as a store does that ignores If-None-Match."""

    def create(self, path: str, data: bytes) -> bool:
        self.remove(path)
        return super().create(path, data)


def test_a_store_that_creates_twice_makes_no_leader(url: str) -> None:
    with pytest.raises(ConfigurationInvalid, match="twice"):
        Epochs(CarelessStorage(url)).take([POLICY], "me")
