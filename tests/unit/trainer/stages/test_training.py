"""The shared loop: schedule, order, checkpoints, and what they refuse."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from attune.domain.errors import InvalidInput, TrainingStopped
from attune.trainer.optimizer_state import load_optimizer, save_optimizer
from attune.trainer.stages.training import (
    BatchOrder,
    StageProgress,
    StageResult,
    StageRun,
    StageSettings,
    apply_gradients,
    learning_rate,
    new_optimizer,
    shuffled_batches,
    source_identity,
)
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn


def test_the_schedule_warms_up_and_ends_at_a_tenth() -> None:
    rates = [learning_rate(step, 101, 1.0, 10) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (1, 1), (2, 5)])
def test_short_schedules_have_rates(steps: int, warmup: int) -> None:
    assert all(0 < learning_rate(step, steps, 1.0, warmup) <= 1.0 for step in range(steps))


def test_gains_and_biases_do_not_decay() -> None:
    optimizer = new_optimizer(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)), StageSettings(weight_decay=0.1))
    assert [(len(g["params"]), g["weight_decay"]) for g in optimizer.param_groups] == [(1, 0.1), (3, 0.0)]


@given(st.lists(st.integers(1, 99), min_size=1, max_size=200), st.integers(1, 9), st.integers(0, 3))
def test_an_epoch_holds_every_index_once_and_can_be_told_again(lengths: list[int], size: int, epoch: int) -> None:
    batches = shuffled_batches(lengths, size, seed=7, epoch=epoch)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(len(batch) <= size for batch in batches)
    assert batches == shuffled_batches(lengths, size, seed=7, epoch=epoch)


def test_batches_are_of_similar_length_and_epochs_differ() -> None:
    lengths = [10] * 64 + [90] * 64
    batches = shuffled_batches(lengths, 8, seed=0, epoch=0)
    assert all(len({lengths[i] for i in batch}) == 1 for batch in batches)
    assert batches != shuffled_batches(lengths, 8, seed=0, epoch=1)


def test_steps_follow_from_epochs_unless_given() -> None:
    order = BatchOrder([5] * 10, StageSettings(batch_size=4, epochs=2.0))
    assert order.steps == 6
    assert sorted(i for step in range(3, 6) for i in order[step]) == list(range(10))
    assert BatchOrder([5] * 10, StageSettings(batch_size=4, epochs=2.0, steps=100)).steps == 100
    with pytest.raises(InvalidInput, match="nothing to train on"):
        BatchOrder([], StageSettings())


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    model = nn.Linear(2, 1)
    before = model.weight.detach().clone()
    (model(torch.full((1, 2), float("inf")))).sum().backward()
    with pytest.raises(TrainingStopped, match="not finite"):
        apply_gradients(model, new_optimizer(model, StageSettings()), 1.0, 1.0)
    assert torch.equal(model.weight, before)


def test_the_identity_of_a_source_is_its_content(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        (folder / "data").write_text("same")
    assert source_identity(one) == source_identity(two)
    (two / "data").write_text("other")
    assert source_identity(one) != source_identity(two)
    assert source_identity("org/model") == "org/model"


class _Line:
    """y = w x learnt by AdamW: a learner with state, small enough to reason about."""

    def __init__(self, poison_at: int = -1) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(1, 1)
        self.optimizer = new_optimizer(self.model, StageSettings())
        self.stepped: list[int] = []
        self._poison_at = poison_at

    def step(self, index: int, lr: float) -> tuple[float, int]:
        self.stepped.append(index)
        x = torch.tensor([[float(index % 5)]])
        loss = (self.model(x) - 3 * x).pow(2).mean()
        loss.backward()
        apply_gradients(self.model, self.optimizer, lr, 1.0)
        return (float("nan") if index == self._poison_at else loss.item()), 1

    def validate(self) -> float | None:
        return 0.5

    def save(self, folder: Path) -> None:
        save_file(self.model.state_dict(), folder / "model.safetensors")
        save_optimizer(self.optimizer, folder / "optimizer.safetensors")

    def load(self, folder: Path) -> None:
        self.model.load_state_dict(load_file(folder / "model.safetensors"))
        load_optimizer(self.optimizer, folder / "optimizer.safetensors")


SETTINGS = StageSettings(lr=0.1, warmup_steps=3, validate_every=4, checkpoint_every=5)


class _Killed(BaseException):
    pass


def _kill_at(step: int):
    def on_progress(progress: StageProgress) -> None:
        if progress.step == step:
            raise _Killed

    return on_progress


def test_progress_tells_every_step_and_validates_when_asked(tmp_path: Path) -> None:
    seen: list[StageProgress] = []
    loss, validation_loss = StageRun(tmp_path / "out", SETTINGS, "x").train(_Line(), 10, seen.append)
    assert [progress.step for progress in seen] == list(range(1, 11))
    assert [progress.validation_loss for progress in seen[:5]] == [None, None, None, 0.5, 0.5]
    assert (seen[-1].loss, seen[-1].steps, validation_loss) == (loss, 10, 0.5)
    assert all(progress.tokens_per_s > 0 for progress in seen)


@pytest.mark.parametrize("killed_at", [1, 5, 9, 12])
def test_a_killed_run_ends_with_the_same_weights(tmp_path: Path, killed_at: int) -> None:
    whole = _Line()
    StageRun(tmp_path / "whole", SETTINGS, "x").train(whole, 13, None)
    run = StageRun(tmp_path / "out", SETTINGS, "x")
    with pytest.raises(_Killed):
        run.train(_Line(), 13, _kill_at(killed_at))
    resumed = _Line()
    run.train(resumed, 13, None)
    assert resumed.stepped[0] == killed_at // 5 * 5
    assert torch.equal(resumed.model.weight, whole.model.weight)
    assert torch.equal(resumed.model.bias, whole.model.bias)


def test_a_half_written_checkpoint_is_not_read(tmp_path: Path) -> None:
    run = StageRun(tmp_path / "out", SETTINGS, "x")
    with pytest.raises(_Killed):
        run.train(_Line(), 13, _kill_at(6))
    half = tmp_path / "out.checkpoint" / "partial"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    resumed = _Line()
    run.train(resumed, 13, None)
    assert resumed.stepped[0] == 5


def test_a_checkpoint_of_other_data_or_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(_Killed):
        StageRun(tmp_path / "out", SETTINGS, "x").train(_Line(), 13, _kill_at(6))
    with pytest.raises(InvalidInput, match="other data or settings"):
        StageRun(tmp_path / "out", SETTINGS, "y").train(_Line(), 13, None)


def test_a_loss_that_is_not_finite_stops(tmp_path: Path) -> None:
    with pytest.raises(TrainingStopped, match="step 4"):
        StageRun(tmp_path / "out", SETTINGS, "x").train(_Line(poison_at=3), 13, None)


def _finish(run: StageRun) -> StageResult:
    result = StageResult(run.out, 13, 0.1, None, 5, 0, metrics={"accuracy": 0.9})
    return run.finish(result, lambda folder: None)


def test_a_finished_run_is_not_run_again_and_leaves_no_checkpoint(tmp_path: Path) -> None:
    run = StageRun(tmp_path / "out", SETTINGS, "x")
    (tmp_path / "out").mkdir()
    assert run.finished() is None
    run.train(_Line(), 13, None)
    assert run.finished() is None
    result = _finish(run)
    assert StageRun(tmp_path / "out", SETTINGS, "x").finished() == result
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    with pytest.raises(InvalidInput, match="holds something else"):
        StageRun(tmp_path / "out", SETTINGS, "other data").finished()


def test_a_folder_of_something_else_is_kept(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text(json.dumps({"mine": True}))
    with pytest.raises(InvalidInput, match="holds something else"):
        StageRun(tmp_path, SETTINGS, "x").finished()
