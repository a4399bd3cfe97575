"""Which forward pass a model gets."""

from __future__ import annotations

import gc
from pathlib import Path
from weakref import ref

import pytest
import torch
from attune.modeling.loading import load_policy
from attune.policy.forward import ModelForward, forward_of
from attune.policy.packed_llama import PackedLlama
from tiny_models import tiny_policy_folder


@pytest.mark.parametrize(
    ("family", "dtype", "expected"),
    [
        ("llama", torch.float32, PackedLlama),
        ("qwen2", torch.float32, PackedLlama),
        ("gpt2", torch.float32, ModelForward),
        ("llama", torch.bfloat16, ModelForward),
    ],
)
def test_the_fastest_that_gives_the_numbers_of_the_model(
    tmp_path: Path, family: str, dtype: torch.dtype, expected: type
) -> None:
    model = load_policy(tiny_policy_folder(tmp_path / "model", family), dtype=dtype).model
    assert type(forward_of(model)) is expected


def test_a_model_that_computes_otherwise_runs_its_own_pass(tmp_path: Path) -> None:
    model = load_policy(tiny_policy_folder(tmp_path / "model")).model
    model.__class__ = type("Otherwise", (type(model),), {})
    assert type(forward_of(model)) is ModelForward


def test_weights_are_packed_once_and_go_with_their_model(tmp_path: Path) -> None:
    policy = load_policy(tiny_policy_folder(tmp_path / "model"))
    packed = ref(forward_of(policy.model))
    assert forward_of(policy.model) is packed()
    del policy
    gc.collect()
    assert packed() is None
