"""Demonstrations: what is learnt, what is dropped, and that a killed run ends the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from attune.modeling.loading import load_policy
from attune.modeling.tokenizer import render_prompt
from attune.trainer.stages.data import SupervisedExample
from attune.trainer.stages.sft import encode, finetune
from attune.trainer.stages.training import StageProgress, StageSettings
from safetensors.torch import load_file
from tiny_models import FAMILIES, tiny_policy_folder, tiny_tokenizer

SETTINGS = StageSettings(lr=5e-3, batch_size=8, steps=10, warmup_steps=2, checkpoint_every=4, validation_share=0.1)


@pytest.fixture
def demonstrations(tmp_path: Path) -> Path:
    path = tmp_path / "sft.jsonl"
    rows = [
        {"prompt": [{"role": "user", "content": f"order {n}"}], "completion": "on its way " * (1 + n % 3)}
        for n in range(50)
    ]
    path.write_text("\n".join(map(json.dumps, [*rows, {"prompt": "p", "completion": "word " * 200}])))
    return path


def test_only_the_completion_and_its_eos_are_learnt() -> None:
    tokenizer = tiny_tokenizer()
    prompt = [{"role": "user", "content": "Where?"}]
    (sequence,) = encode(tokenizer, [SupervisedExample(prompt, "Here.")], max_context=64)
    assert list(sequence.ids[: sequence.learnt_from]) == render_prompt(tokenizer, prompt)
    assert tokenizer.decode(sequence.ids[sequence.learnt_from :]) == "Here.<|end|>"


def test_what_does_not_fit_is_dropped() -> None:
    tokenizer = tiny_tokenizer()
    examples = [SupervisedExample("abc", "def"), SupervisedExample("abc", "x" * 99)]
    (whole,) = encode(tokenizer, examples[:1], 64)
    assert encode(tokenizer, examples, len(whole.ids)) == [whole]
    assert encode(tokenizer, examples, len(whole.ids) - 1) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_base_model_learns_to_answer(tmp_path: Path, demonstrations: Path, family: str) -> None:
    losses: list[float] = []
    base = tiny_policy_folder(tmp_path / "base", family)
    result = finetune([demonstrations], tmp_path / "sft", base, SETTINGS, on_progress=lambda p: losses.append(p.loss))
    assert losses[-1] < 0.8 * losses[0]
    assert result.dropped_too_long == 1
    assert result.training_examples + result.validation_examples == 50
    assert load_policy(tmp_path / "sft").max_context == 64


class _Killed(BaseException):
    pass


def _kill_at_7(progress: StageProgress) -> None:
    if progress.step == 7:
        raise _Killed


def test_a_killed_run_ends_with_the_same_weights(tmp_path: Path, demonstrations: Path) -> None:
    base = tiny_policy_folder(tmp_path / "base")
    finetune([demonstrations], tmp_path / "whole", base, SETTINGS)
    with pytest.raises(_Killed):
        finetune([demonstrations], tmp_path / "killed", base, SETTINGS, on_progress=_kill_at_7)
    finetune([demonstrations], tmp_path / "killed", base, SETTINGS)
    whole, killed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
