"""The probe: which families the engine decodes, how far, and that the others are refused before they can be named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from attune.domain.errors import CheckpointRefused
from attune.modeling.loading import LoadedPolicy, load_policy, save_policy
from attune.policy.probe import attention_window, check_decodes, decoding_gap, within_window
from tiny_models import FAMILIES, tiny_policy_folder, tiny_tokenizer
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    GPTNeoConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
)

DECODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
           "num_key_value_heads": 2, "max_position_embeddings": 64}  # fmt: skip
NARROW = {
    "mistral": (MistralConfig, DECODER | {"sliding_window": 12}),
    "gemma2": (Gemma2Config, DECODER | {"sliding_window": 12, "head_dim": 8}),
    "qwen2": (Qwen2Config, DECODER | {"sliding_window": 12, "use_sliding_window": True, "max_window_layers": 1}),
    "gpt_neo": (GPTNeoConfig, {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "window_size": 12,
                               "attention_types": [[["global", "local"], 1]], "max_position_embeddings": 64}),
}  # fmt: skip
FOREIGN = {
    "bloom": (BloomConfig, {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "mamba": (MambaConfig, {"hidden_size": 32, "num_hidden_layers": 2}),
}


def of_family(folder: Path, cls: type[PretrainedConfig], shape: dict[str, Any]) -> LoadedPolicy:
    """A model with weights large enough that a token more or less to look at shows."""
    tokenizer = tiny_tokenizer()
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(cls(**shape, vocab_size=len(tokenizer), **ids))
        for parameter in (p for p in model.parameters() if p.dim() > 1):
            torch.nn.init.normal_(parameter, std=0.2)
    save_policy(model, tokenizer, folder)
    return load_policy(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_usual_families_pass_whole(tmp_path: Path, family: str) -> None:
    policy = load_policy(tiny_policy_folder(tmp_path / family, family))
    check_decodes(policy, "policies/a/revisions/1")
    assert within_window(policy) is policy
    assert decoding_gap(policy, [[5, 6, 7], [8] * 30], steps=20) < 1e-4


def test_fewer_key_heads_and_untied_embeddings_pass(tmp_path: Path) -> None:
    policy = of_family(tmp_path / "model", LlamaConfig, DECODER | {"tie_word_embeddings": False})
    check_decodes(policy, "policies/a/revisions/1")


@pytest.mark.parametrize("family", NARROW)
def test_a_narrow_window_cuts_the_context_and_within_it_nothing_is_mislabelled(tmp_path: Path, family: str) -> None:
    whole = of_family(tmp_path / "model", *NARROW[family])
    policy = within_window(whole)
    assert attention_window(whole.model.config) == policy.max_context == 12
    check_decodes(policy, "policies/a/revisions/1")
    longest = policy.max_context - 1
    assert decoding_gap(policy, [[5, 6, 7], [8] * longest], steps=0) < 1e-4
    assert decoding_gap(policy, [[5, 6, 7], [8, 9]], steps=longest - 3) < 1e-4


def test_beyond_the_window_tokens_would_be_mislabelled(tmp_path: Path) -> None:
    policy = of_family(tmp_path / "model", *NARROW["gpt_neo"])
    assert decoding_gap(policy, [[5, 6, 7], [8, 9] * 10], steps=10) > 0.1


@pytest.mark.parametrize("family", FOREIGN)
def test_a_family_that_the_decoder_does_not_know_is_refused_by_name(tmp_path: Path, family: str) -> None:
    policy = of_family(tmp_path / "model", *FOREIGN[family])
    with pytest.raises(CheckpointRefused, match=f"revisions/7 is a {family}, which this engine cannot decode"):
        check_decodes(within_window(policy), "policies/a/revisions/7")


def test_other_logprobs_than_those_of_a_plain_pass_are_refused(tmp_path: Path) -> None:
    policy = load_policy(tiny_policy_folder(tmp_path / "model"))

    class Forgetful(type(policy.model)):  # type: ignore[misc]
        """Sees only the token itself once it has a cache to look at."""

        def forward(self, **given: Any) -> Any:
            if given.get("attention_mask") is not None and given["attention_mask"].dim() == 4:
                given["attention_mask"] = torch.zeros_like(given["attention_mask"])
                given["attention_mask"][..., -1] = True
            return super().forward(**given)

    policy.model.__class__ = Forgetful
    for parameter in policy.model.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(CheckpointRefused, match=r"recorded with an error of \d"):
        check_decodes(policy, "policies/a/revisions/1")


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    policy = load_policy(tiny_policy_folder(tmp_path / "model"))
    with torch.no_grad():
        policy.model.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(CheckpointRefused, match="not finite"):
        check_decodes(replace(policy), "policies/a/revisions/1")
