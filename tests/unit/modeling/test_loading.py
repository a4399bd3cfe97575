import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from attune.domain.errors import CheckpointRefused, ConfigurationInvalid
from attune.modeling.loading import device_named, load_for_training, load_policy, new_policy, save_policy
from attune.modeling.tokenizer import tokenizer_hash, train_tokenizer
from safetensors.torch import load_file, save_file
from tiny_models import FAMILIES, tiny_policy_folder, tiny_shape, tiny_tokenizer


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_policy_loads_with_the_same_logits(tmp_path: Path, family: str) -> None:
    tokenizer = tiny_tokenizer()
    model = new_policy(tiny_shape(family), tokenizer, seed=3)
    save_policy(model, tokenizer, tmp_path)
    loaded = load_policy(tmp_path, expected_tokenizer_hash=tokenizer_hash(tokenizer))
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.equal(loaded.model(ids).logits, model(ids).logits)
    assert loaded.max_context == 64
    assert not loaded.model.training
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    assert loaded.model.get_output_embeddings().weight is loaded.model.get_input_embeddings().weight


@pytest.mark.parametrize("family", FAMILIES)
def test_training_mode_has_no_dropout(tmp_path: Path, family: str) -> None:
    folder = tiny_policy_folder(tmp_path / "policy", family)
    config = json.loads((folder / "config.json").read_text())
    config |= {"attention_dropout": 0.5} if family != "gpt2" else {"attn_pdrop": 0.5, "resid_pdrop": 0.5}
    (folder / "config.json").write_text(json.dumps(config))
    model = load_policy(folder).model.train()
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.equal(model(ids).logits, model(ids).logits)


def test_the_seed_decides_the_weights() -> None:
    tokenizer = tiny_tokenizer()
    one, same, other = (new_policy(tiny_shape(), tokenizer, seed).get_input_embeddings().weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def _truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-64])


def _pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _pickle_in_disguise(folder: Path) -> None:
    torch.save({}, folder / "model.safetensors")


def _edit_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path) | changes
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path, {"format": "pt"})


def _not_finite(folder: Path) -> None:
    _edit_weights(folder, **{"model.norm.weight": torch.full((32,), float("nan"))})


def _missing(folder: Path) -> None:
    _edit_weights(folder, **{"model.norm.weight": None})


def _unexpected(folder: Path) -> None:
    _edit_weights(folder, stranger=torch.zeros(2))


def _wrong_shape(folder: Path) -> None:
    _edit_weights(folder, **{"model.norm.weight": torch.ones(16)})


def _no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _malformed_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def _larger_tokenizer(folder: Path) -> None:
    train_tokenizer(["many other words stand in this text, such as zebra and giraffe"] * 9, 320).save_pretrained(
        str(folder)
    )


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_truncate, "truncated"),
        (_pickle, "pickled"),
        (_pickle_in_disguise, "truncated or no safetensors"),
        (_not_finite, "not finite"),
        (_missing, "lacks tensors: model.norm.weight"),
        (_unexpected, "unexpected tensors: stranger"),
        (_wrong_shape, "wrongly shaped tensors: model.norm.weight"),
        (_no_tokenizer, "tokenizer"),
        (_no_config, "config.json"),
        (_malformed_config, "does not load"),
        (_larger_tokenizer, "tokenizer has"),
    ],
)
def test_a_bad_folder_is_refused_and_named(tmp_path: Path, damage, says: str) -> None:
    folder = tiny_policy_folder(tmp_path / "policy")
    damage(folder)
    with pytest.raises(CheckpointRefused, match=says) as refusal:
        load_policy(folder)
    assert str(folder) in refusal.value.message


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = tiny_policy_folder(tmp_path / "policy")
    with pytest.raises(CheckpointRefused, match="another tokenizer"):
        load_policy(folder, expected_tokenizer_hash="0" * 64)


def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(CheckpointRefused, match="no folder"):
        load_policy(str(tmp_path / "absent"))


def in_the_hubs_cache(cache: Path, hub_id: str) -> None:
    """A tiny policy as the hub's client keeps what it has downloaded."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    model = cache / f"models--{hub_id.replace('/', '--')}"
    tiny_policy_folder(model / "snapshots" / commit)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(commit)


def loaded_apart(hub_id: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Loads a hub id in a process of its own, for the hub's client reads its environment once."""
    code = "import sys; from attune.modeling.loading import load_for_training, load_policy; " \
           "print(load_policy(sys.argv[1]).max_context, load_for_training(sys.argv[1]).max_context)"  # fmt: skip
    command = [sys.executable, "-c", code, hub_id]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, env=os.environ | environment)


def test_a_hub_id_loads_through_the_hubs_client(tmp_path: Path) -> None:
    in_the_hubs_cache(tmp_path, "acme/tiny")
    done = loaded_apart("acme/tiny", {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["64", "64"]


def test_a_name_that_nobody_has_is_refused_at_once(tmp_path: Path) -> None:
    done = loaded_apart("nobase", {"HF_HUB_CACHE": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:1"})
    assert done.returncode != 0
    assert "CheckpointRefused: there is no folder nobase, and the hub cannot be asked for it" in done.stderr
    assert "Retrying" not in done.stderr


def test_a_base_model_without_pad_gets_one_for_training(tmp_path: Path) -> None:
    folder = tiny_policy_folder(tmp_path / "gpt2", "gpt2")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    for key in ("pad_token", "chat_template", "extra_special_tokens"):
        config.pop(key)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    rules = json.loads((folder / "tokenizer.json").read_text())
    rules["added_tokens"] = [token for token in rules["added_tokens"] if token["content"] == "<|end|>"]
    rules["model"]["vocab"]["<|not-pad|>"] = rules["model"]["vocab"].pop("<|pad|>")
    (folder / "tokenizer.json").write_text(json.dumps(rules))
    with pytest.raises(CheckpointRefused, match="PAD"):
        load_policy(folder)
    first, second = load_for_training(folder, seed=5), load_for_training(folder, seed=5)
    assert first.tokenizer.pad_token_id == len(first.tokenizer) - 1
    weights = [loaded.model.get_input_embeddings().weight for loaded in (first, second)]
    assert weights[0].shape[0] == len(first.tokenizer)
    assert torch.equal(*weights)


def test_a_device_is_what_this_machine_has() -> None:
    assert device_named("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device_named("cpu") == "cpu"
    for name in ("cuda:99", "abacus"):
        with pytest.raises(ConfigurationInvalid, match=f"there is no device {name} here"):
            device_named(name)
