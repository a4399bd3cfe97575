"""Text files to a base model, and on from one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from attune.domain.errors import InvalidInput
from attune.modeling.loading import load_policy
from attune.modeling.tokenizer import tokenizer_hash
from attune.trainer.stages.pretraining import pack, pretrain, separate
from attune.trainer.stages.training import StageProgress, StageSettings
from safetensors.torch import load_file
from tiny_models import FAMILIES, tiny_policy_folder, tiny_shape, tiny_tokenizer

SETTINGS = StageSettings(lr=3e-3, batch_size=8, steps=12, warmup_steps=2, checkpoint_every=4, validation_share=0.1)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    rows = [{"text": f"The order {n} of {who} is late."} for n in range(40) for who in ("Ada", "Ben", "Cleo")]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_model_and_tokenizer_are_trained(tmp_path: Path, texts: Path, family: str) -> None:
    losses: list[float] = []
    result = pretrain(
        [texts], tmp_path / "base", tiny_shape(family), SETTINGS, vocabulary=300, sequence_tokens=24,
        on_progress=lambda progress: losses.append(progress.loss),
    )  # fmt: skip
    loaded = load_policy(tmp_path / "base")
    assert len(losses) == result.steps == 12
    assert losses[-1] < losses[0]
    assert len(loaded.tokenizer) <= 300
    assert result.training_examples + result.validation_examples == 120
    assert result.validation_loss is not None


def test_training_goes_on_from_a_folder_with_its_tokenizer(tmp_path: Path, texts: Path) -> None:
    folder = tiny_policy_folder(tmp_path / "start")
    pretrain([texts], tmp_path / "base", folder, SETTINGS, sequence_tokens=24)
    assert tokenizer_hash(tmp_path / "base") == tokenizer_hash(folder)
    embeddings = [load_policy(f).model.get_input_embeddings().weight for f in (folder, tmp_path / "base")]
    assert not torch.equal(*embeddings)


class _Killed(BaseException):
    pass


def _kill_at_6(progress: StageProgress) -> None:
    if progress.step == 6:
        raise _Killed


def test_a_killed_run_ends_with_the_same_weights(tmp_path: Path, texts: Path) -> None:
    arguments = {"base": tiny_shape(), "settings": SETTINGS, "vocabulary": 300, "sequence_tokens": 24}
    pretrain([texts], tmp_path / "whole", **arguments)
    with pytest.raises(_Killed):
        pretrain([texts], tmp_path / "killed", **arguments, on_progress=_kill_at_6)
    steps: list[int] = []
    pretrain([texts], tmp_path / "killed", **arguments, on_progress=lambda progress: steps.append(progress.step))
    assert steps[0] == 5
    whole, killed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], killed[name]) for name in whole)


def test_short_texts_may_stand_alone(tmp_path: Path, texts: Path) -> None:
    result = pretrain([texts], tmp_path / "base", tiny_shape(), SETTINGS, vocabulary=300, is_packed=False)
    assert result.loss < 5.5


def test_a_second_call_returns_the_first_result(tmp_path: Path, texts: Path) -> None:
    first = pretrain([texts], tmp_path / "base", tiny_shape(), SETTINGS, vocabulary=300, sequence_tokens=24)
    calls: list[StageProgress] = []
    again = pretrain(
        [texts], tmp_path / "base", tiny_shape(), SETTINGS, vocabulary=300, sequence_tokens=24, on_progress=calls.append
    )
    assert again == first
    assert not calls


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("Hi.")
    with pytest.raises(InvalidInput, match="fewer than 64 tokens"):
        pretrain([path], tmp_path / "base", tiny_shape(), StageSettings(validation_share=0.0))


def test_packing_predicts_every_token_once() -> None:
    tokenizer = tiny_tokenizer()
    texts = ["abcdef", "ghijk"]
    stream = [token for ids in tokenizer(texts)["input_ids"] for token in (*ids, tokenizer.eos_token_id)]
    sequences = [sequence.ids for sequence in pack(tokenizer, texts, 4)]
    assert len(sequences) == (len(stream) - 1) // 3
    assert [token for ids in sequences for token in ids[1:]] == stream[1 : 1 + 3 * len(sequences)]
    assert [ids[0] for ids in sequences] == stream[: 3 * len(sequences) : 3]


def test_control_tokens_in_a_text_are_characters() -> None:
    tokenizer = tiny_tokenizer()
    (sequence,) = pack(tokenizer, ["x<|end|>"], len(tokenizer("x<|end|>", split_special_tokens=True)["input_ids"]) + 1)
    assert sequence.ids.count(tokenizer.eos_token_id) == 1
    assert sequence.ids[-1] == tokenizer.eos_token_id


def test_conversations_are_rendered_by_the_template() -> None:
    tokenizer = tiny_tokenizer()
    conversation = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]
    width = len(tokenizer.apply_chat_template(conversation)["input_ids"])
    (sequence,) = pack(tokenizer, [conversation], width)
    assert tokenizer.decode(sequence.ids) == "<|user|>Hi<|assistant|>Yo<|end|>"


def test_separate_documents_stand_alone_and_long_ones_go_on() -> None:
    tokenizer = tiny_tokenizer()
    one, two = ([*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in ("ab", "abcdefgh"))
    assert (len(one), len(two)) == (3, 9)
    sequences = [sequence.ids for sequence in separate(tokenizer, ["ab", "abcdefgh"], 5)]
    assert sequences == [tuple(one), tuple(two[:5]), tuple(two[4:])]
