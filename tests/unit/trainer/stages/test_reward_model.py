"""Rankings, pairs and ratings to a normalised reward model."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from attune.modeling.anchors import read_anchors
from attune.modeling.batching import pad
from attune.modeling.reward_model import load_reward_model, reward_input
from attune.modeling.tokenizer import render_prompt
from attune.trainer.stages.reward_model import train_reward_model
from attune.trainer.stages.training import StageProgress, StageSettings
from safetensors.torch import load_file
from tiny_models import FAMILIES, tiny_policy_folder

SETTINGS = StageSettings(lr=3e-3, batch_size=32, steps=40, warmup_steps=4, checkpoint_every=8, validation_share=0.2)


@pytest.fixture
def preferences(tmp_path: Path) -> Path:
    """People like `thanks` and dislike `no`; the rater `strict` gives lower ratings than `mild`."""
    rng = random.Random(0)
    rows: list[dict] = []
    for n in range(120):
        prompt = [{"role": "user", "content": f"order {n}"}]
        good, middling, bad = f"thanks {rng.random():.2f}", f"well {rng.random():.2f}", f"no {rng.random():.2f}"
        rows.append({"prompt": prompt, "ranking": [good, [middling, "so so"], bad]})
        rows.append({"prompt": prompt, "chosen": good, "rejected": bad})
        rows.append({"prompt": prompt, "completion": middling, "rating": n % 2, "source": "mild"})
        rows.append({"prompt": prompt, "completion": middling, "rating": 0, "source": "strict"})
    rows.append({"prompt": "p", "chosen": "a", "rejected": "word " * 200})
    path = tmp_path / "preferences.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize("family", FAMILIES)
def test_what_people_like_scores_higher(tmp_path: Path, preferences: Path, family: str) -> None:
    losses: list[StageProgress] = []
    base = tiny_policy_folder(tmp_path / "base", family)
    result = train_reward_model([preferences], tmp_path / "reward", base, SETTINGS, on_progress=losses.append)
    assert result.metrics["accuracy"] > 0.8
    assert 0 <= result.metrics["calibration_error"] <= 1
    assert result.dropped_too_long == 1
    assert result.validation_loss is not None
    assert losses[-1].loss < losses[0].loss
    loaded = load_reward_model(tmp_path / "reward")
    assert loaded.source_biases["strict"] > loaded.source_biases["mild"]


def test_the_anchors_score_0_and_1_and_are_kept(tmp_path: Path, preferences: Path) -> None:
    base = tiny_policy_folder(tmp_path / "base")
    anchors = [("order 1", text) for text in ("thanks", "no", "well", "quite another answer")]
    result = train_reward_model([preferences], tmp_path / "reward", base, SETTINGS, anchors=anchors)
    assert result.metrics.keys() == {"accuracy", "calibration_error", "anchor_mean", "anchor_std"}
    assert read_anchors(tmp_path / "reward") == anchors
    loaded = load_reward_model(tmp_path / "reward")
    prompt = render_prompt(loaded.tokenizer, "order 1")
    batch = pad([reward_input(loaded.tokenizer, prompt, text) for _, text in anchors], 0)
    with torch.no_grad():
        scores = loaded.normalisation.normalised(loaded.model.scores(batch.input_ids, batch.attention_mask))
    assert scores.mean().item() == pytest.approx(0, abs=1e-4)
    assert scores.std(correction=0).item() == pytest.approx(1, abs=1e-4)


class _Killed(BaseException):
    pass


def _kill_at_11(progress: StageProgress) -> None:
    if progress.step == 11:
        raise _Killed


def test_a_killed_run_ends_with_the_same_weights_and_training_goes_on_from_it(
    tmp_path: Path, preferences: Path
) -> None:
    base = tiny_policy_folder(tmp_path / "base")
    whole = train_reward_model([preferences], tmp_path / "whole", base, SETTINGS)
    with pytest.raises(_Killed):
        train_reward_model([preferences], tmp_path / "killed", base, SETTINGS, on_progress=_kill_at_11)
    killed = train_reward_model([preferences], tmp_path / "killed", base, SETTINGS)
    assert killed.metrics == whole.metrics
    for file in ("model.safetensors", "reward_head.safetensors"):
        one, two = (load_file(tmp_path / name / file) for name in ("whole", "killed"))
        assert all(torch.equal(one[name], two[name]) for name in one)
    more = train_reward_model([preferences], tmp_path / "more", tmp_path / "whole", SETTINGS)
    assert more.metrics["accuracy"] >= 0.8
