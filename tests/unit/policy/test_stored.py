"""A stored policy: verified as any other, its folder kept, and an engine held to what the plain pass says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from attune.domain.errors import CheckpointRefused
from attune.modeling.loading import load_policy
from attune.policy.stored import PROBE_TEMPERATURE, check_probe, shape_of, stored_policy
from support.spoilt import not_finite, overflowing
from tiny_models import tiny_policy_folder


def test_what_follows_the_probe_is_what_the_model_says_at_the_temperature(tmp_path: Path) -> None:
    folder = tiny_policy_folder(tmp_path / "policy")
    stored, loaded = stored_policy(folder, torch.float32, None), load_policy(folder)
    with torch.inference_mode():
        logits = loaded.model(input_ids=torch.tensor([stored.probe_ids])).logits[0, -1]
    expected = torch.log_softmax(logits / PROBE_TEMPERATURE, dim=-1)
    assert torch.allclose(stored.probe_logprobs, expected, atol=1e-6)
    assert (stored.folder, stored.max_context) == (folder, loaded.max_context)
    check_probe(stored, "policies/support/revisions/1")
    stored.check_wrote("policies/support/revisions/1", 7, float(expected[7]))
    with pytest.raises(CheckpointRefused, match=r"error of 0\.1 nats"):
        stored.check_wrote("policies/support/revisions/1", 7, float(expected[7]) - 0.1)
    with pytest.raises(CheckpointRefused):
        stored.check_wrote("policies/support/revisions/1", 7, float("nan"))


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    weights, products = tiny_policy_folder(tmp_path / "weights"), tiny_policy_folder(tmp_path / "products")
    not_finite(weights)
    with pytest.raises(CheckpointRefused, match="finite"):
        stored_policy(weights, torch.float32, None)
    overflowing(products)
    stored = stored_policy(products, torch.float32, None)
    with pytest.raises(CheckpointRefused, match="revisions/2 computes logits that are not finite"):
        check_probe(stored, "policies/support/revisions/2")


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointRefused, match="tokenizer"):
        stored_policy(tiny_policy_folder(tmp_path / "policy"), torch.float32, "0" * 64)


def test_the_shape_is_the_family_and_its_sizes_and_no_name(tmp_path: Path) -> None:
    one, other = (tiny_policy_folder(tmp_path / str(seed), seed=seed) for seed in (1, 2))
    shapes = [shape_of(load_policy(folder).model.config) for folder in (one, other)]
    assert shapes[0] == shapes[1]
    assert shapes[0] != shape_of(load_policy(tiny_policy_folder(tmp_path / "gpt2", "gpt2")).model.config)
