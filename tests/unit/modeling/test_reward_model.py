import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from attune.domain.errors import CheckpointRefused
from attune.modeling.batching import pad
from attune.modeling.loading import load_policy
from attune.modeling.reward_model import (
    HEAD_FILE,
    MANIFEST_FILE,
    Normalisation,
    critic_from_reward_model,
    load_reward_model,
    reward_input,
    reward_model_on,
    save_reward_model,
)
from attune.modeling.tokenizer import render_prompt
from safetensors.torch import save_file
from tiny_models import FAMILIES, tiny_policy_folder, tiny_reward_folder, tiny_tokenizer

SEQUENCES = [[9, 8, 7, 6, 5, 1], [40, 41, 1], [12, 1]]


def _scores(model, side: str) -> torch.Tensor:
    batch = pad(SEQUENCES, 0, side)
    return model.scores(batch.input_ids, batch.attention_mask)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_padding_side_does_not_change_a_score(tmp_path: Path, family: str) -> None:
    model = load_reward_model(tiny_reward_folder(tmp_path / "reward", family)).model
    alone = torch.cat([model.scores(torch.tensor([s]), torch.ones(1, len(s), dtype=torch.long)) for s in SEQUENCES])
    assert alone.std() > 0.01
    for side in ("left", "right"):
        torch.testing.assert_close(_scores(model, side), alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_saving_keeps_scores_and_manifest(tmp_path: Path, family: str) -> None:
    loaded = load_reward_model(tiny_reward_folder(tmp_path / "one", family))
    save_reward_model(replace(loaded, source_biases={"b": 1.0, "a": -1.0}), tmp_path / "two")
    again = load_reward_model(tmp_path / "two")
    assert torch.equal(_scores(again.model, "right"), _scores(loaded.model, "right"))
    assert again.normalisation == Normalisation(0.25, 2.0)
    assert again.source_biases == {"a": -1.0, "b": 1.0}
    assert again.max_context == 64


def test_the_head_stays_float32_on_a_bfloat16_trunk(tmp_path: Path) -> None:
    model = load_reward_model(tiny_reward_folder(tmp_path / "reward"), dtype=torch.bfloat16).model
    assert model.trunk.dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert _scores(model, "right").dtype == torch.float32


def test_the_value_at_the_last_token_is_the_score(tmp_path: Path) -> None:
    model = load_reward_model(tiny_reward_folder(tmp_path / "reward")).model
    batch = pad(SEQUENCES, 0)
    values = model.values(batch.input_ids, batch.attention_mask)
    assert values.shape == batch.input_ids.shape
    torch.testing.assert_close(values[range(3), batch.lengths - 1], _scores(model, "right"))


def test_the_critic_starts_in_normalised_units_and_apart(tmp_path: Path) -> None:
    loaded = load_reward_model(tiny_reward_folder(tmp_path / "reward"))
    critic = critic_from_reward_model(loaded.model, loaded.normalisation)
    raw = _scores(loaded.model, "right")
    torch.testing.assert_close(_scores(critic, "right"), loaded.normalisation.normalised(raw))
    next(critic.trunk.parameters()).data.zero_()
    assert torch.equal(_scores(loaded.model, "right"), raw)


def test_the_head_has_the_stated_scale(tmp_path: Path) -> None:
    folder = tiny_policy_folder(tmp_path / "policy")
    trunk = load_policy(folder).model.base_model
    heads = torch.cat([reward_model_on(trunk, seed).head.weight for seed in range(20)])
    assert heads.std().item() == pytest.approx(33**-0.5, rel=0.15)
    assert reward_model_on(trunk).head.bias.item() == 0.0


def test_reward_input_is_prompt_completion_and_one_eos() -> None:
    tokenizer = tiny_tokenizer()
    ids = reward_input(tokenizer, render_prompt(tokenizer, [{"role": "user", "content": "Hi"}]), "On its way.")
    assert tokenizer.decode(ids) == "<|user|>Hi<|assistant|>On its way.<|end|>"


def test_anchors_become_mean_0_and_deviation_1() -> None:
    raw = torch.tensor([1.0, 2.0, 6.0])
    scores = Normalisation.of(raw).normalised(raw)
    torch.testing.assert_close(torch.stack([scores.mean(), scores.std(correction=0)]), torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_a_useless_normalisation_is_refused(mean: float, std: float) -> None:
    with pytest.raises(ValueError, match="std"):
        Normalisation(mean, std)


def _policy_instead(folder: Path) -> None:
    (folder / MANIFEST_FILE).unlink()


def _other_kind(folder: Path) -> None:
    (folder / MANIFEST_FILE).write_text(json.dumps({"kind": "policy"}))


def _zero_std(folder: Path) -> None:
    (folder / MANIFEST_FILE).write_text(json.dumps({"kind": "reward", "anchor_mean": 0, "anchor_std": 0}))


def _no_head(folder: Path) -> None:
    (folder / HEAD_FILE).unlink()


def _nan_head(folder: Path) -> None:
    save_file({"weight": torch.full((1, 32), float("nan")), "bias": torch.zeros(1)}, folder / HEAD_FILE)


def _narrow_head(folder: Path) -> None:
    save_file({"weight": torch.zeros(1, 16), "bias": torch.zeros(1)}, folder / HEAD_FILE)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_policy_instead, "no reward model"),
        (_other_kind, "no reward model but a policy"),
        (_zero_std, "malformed"),
        (_no_head, HEAD_FILE),
        (_nan_head, "not finite"),
        (_narrow_head, "does not fit"),
    ],
)
def test_a_bad_folder_is_refused_and_named(tmp_path: Path, damage, says: str) -> None:
    folder = tiny_reward_folder(tmp_path / "reward")
    damage(folder)
    with pytest.raises(CheckpointRefused, match=says) as refusal:
        load_reward_model(folder)
    assert str(folder) in refusal.value.message
