"""An optimizer's state in one safetensors file, restored bit for bit.

Tensors are named `<parameter index>.<name>`, as in torch's state_dict; the groups' settings (lr, betas, …) stand in
the file's metadata as JSON, under one key, for safetensors writes several in any order and equal states are equal
files. Written by the learners and the stages into checkpoint folders, read by them after a restart. Nothing is
pickled. Refused with CheckpointRefused: a truncated file, and one of another set of parameters.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from attune.domain.errors import CheckpointRefused

LAYOUT = "layout"


def save_optimizer(optimizer: torch.optim.Optimizer, path: str | Path) -> None:
    """Write the state; parameters that never had a gradient have none."""
    state = optimizer.state_dict()
    tensors = {
        f"{index}.{name}": value.detach().cpu().contiguous()
        for index, values in state["state"].items()
        for name, value in values.items()
        if isinstance(value, torch.Tensor)
    }
    shapes = [list(p.shape) for group in optimizer.param_groups for p in group["params"]]
    groups = [{name: value for name, value in group.items() if name != "params"} for group in state["param_groups"]]
    save_file(tensors, path, {LAYOUT: json.dumps({"groups": groups, "shapes": shapes})})


def load_optimizer(optimizer: torch.optim.Optimizer, path: str | Path) -> None:
    """Restore what `save_optimizer` wrote into an optimizer over the same parameters, in the same order."""
    try:
        with safe_open(path, "pt") as file:
            layout = json.loads((file.metadata() or {})[LAYOUT])
            groups, shapes = layout["groups"], layout["shapes"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointRefused(f"{path} is no complete optimizer state") from error
    current = optimizer.state_dict()
    if shapes != [list(p.shape) for group in optimizer.param_groups for p in group["params"]] or len(groups) != len(
        current["param_groups"]
    ):
        raise CheckpointRefused(f"{path} holds the state of another set of parameters")
    state: dict[int, dict[str, Any]] = defaultdict(dict)
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        state[int(index)][name] = tensor
    restored = [
        {name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()}
        | {"params": group["params"]}
        for saved, group in zip(groups, current["param_groups"], strict=True)
    ]
    optimizer.load_state_dict({"state": dict(state), "param_groups": restored})
