"""A restored optimizer goes on exactly as if it had never stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from attune.domain.errors import CheckpointRefused
from attune.trainer.optimizer_state import load_optimizer, save_optimizer
from torch import nn


def _model(width: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, 8), nn.Tanh(), nn.Linear(8, 1), nn.Linear(1, 1))


def _adamw(model: nn.Module, fused: bool = False, lr: float = 1e-2) -> torch.optim.AdamW:
    matrices, vectors = [p for p in model.parameters() if p.dim() > 1], [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0, "scale": 2.0}]
    return torch.optim.AdamW(groups, lr, betas=(0.9, 0.95), fused=fused)


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (model[:3](x) - x.sum(1, keepdim=True)).pow(2).mean().backward()  # the last layer never has a gradient
        optimizer.step()


@pytest.mark.parametrize("fused", [False, True])
def test_training_goes_on_bit_for_bit(tmp_path: Path, fused: bool) -> None:
    whole = _model()
    _train(whole, _adamw(whole, fused), range(9))
    first = _model()
    optimizer = _adamw(first, fused)
    _train(first, optimizer, range(5))
    optimizer.param_groups[1]["lr"] = 1e-2
    save_optimizer(optimizer, tmp_path / "optimizer.safetensors")

    second = _model()
    second.load_state_dict(first.state_dict())
    resumed = _adamw(second, fused, lr=0.5)
    load_optimizer(resumed, tmp_path / "optimizer.safetensors")
    assert resumed.param_groups[0]["betas"] == (0.9, 0.95)
    assert resumed.param_groups[1]["scale"] == 2.0
    _train(second, resumed, range(5, 9))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor), name


def test_equal_states_are_equal_files(tmp_path: Path) -> None:
    model = _model()
    optimizer = _adamw(model)
    _train(model, optimizer, range(2))
    for i in range(12):
        save_optimizer(optimizer, tmp_path / f"{i}.safetensors")
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_a_fresh_optimizer_can_be_saved(tmp_path: Path) -> None:
    save_optimizer(_adamw(_model()), tmp_path / "optimizer.safetensors")
    optimizer = _adamw(_model())
    load_optimizer(optimizer, tmp_path / "optimizer.safetensors")
    assert not optimizer.state


def test_other_parameters_are_refused(tmp_path: Path) -> None:
    save_optimizer(_adamw(_model()), tmp_path / "optimizer.safetensors")
    with pytest.raises(CheckpointRefused, match="another set"):
        load_optimizer(_adamw(_model(width=5)), tmp_path / "optimizer.safetensors")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "optimizer.safetensors"
    model = _model()
    optimizer = _adamw(model)
    _train(model, optimizer, range(1))
    save_optimizer(optimizer, path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CheckpointRefused, match="complete"):
        load_optimizer(optimizer, path)
