"""The pass for the Llama shape gives the numbers of the model: with prompts of any length, and step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from attune.policy.batch import Batch
from attune.policy.blocks import Blocks
from attune.policy.packed_llama import PackedLlama
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

SHAPE: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {"num_key_value_heads": 4},
    "grouped heads": {"num_key_value_heads": 2},
    "one head of keys": {"num_key_value_heads": 1, "tie_word_embeddings": True},
    "wide heads": {"num_key_value_heads": 2, "head_dim": 16},
    "biases": {"num_key_value_heads": 4, "attention_bias": True, "mlp_bias": True},
    "llama3 positions": {"num_key_value_heads": 4, "rope_parameters": LLAMA3},
}
PROMPTS = [[3, 4, 5, 6, 7], [8], [], [9, 10, 11], [*range(20, 34)]]


def llama(**given: Any) -> PreTrainedModel:
    torch.manual_seed(1)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE | given)).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return model


def qwen2() -> PreTrainedModel:
    torch.manual_seed(1)
    return Qwen2ForCausalLM(Qwen2Config(**SHAPE, num_key_value_heads=2)).eval()


def plain(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    return model(input_ids=torch.tensor([ids])).logits[0, -1]


@pytest.mark.parametrize("shape", [*SHAPES, "qwen2"])
@torch.inference_mode()
def test_prompts_and_steps_give_the_numbers_of_the_model(shape: str) -> None:
    model = qwen2() if shape == "qwen2" else llama(**SHAPES[shape])
    assert PackedLlama.takes(model)
    packed, blocks = PackedLlama(model), Blocks(2)
    rows: list[list[int]] = []
    for step in range(8):
        new = PROMPTS[step : step + 2] if step in (0, 3) else []
        last, positions = np.array([row[-1] for row in rows], int), np.array([len(row) - 1 for row in rows], int)
        logits = packed(Batch(last, positions, new, range(len(new))), blocks)
        rows += [list(prompt) for prompt in new]
        for row, found in zip(rows, logits, strict=True):
            torch.testing.assert_close(found, plain(model, row), atol=2e-5, rtol=2e-5)
            row.append((7 * step + len(row)) % 50)


@torch.inference_mode()
def test_rows_of_one_prompt_get_what_its_pass_has_left() -> None:
    model = llama(**SHAPES["grouped heads"])
    packed, blocks = PackedLlama(model), Blocks(2)
    none = np.zeros(0, int)
    first = packed(Batch(none, none, PROMPTS[:2], [0, 1, 0]), blocks)
    assert torch.equal(first[0], first[2])
    then = packed(Batch(np.array([5, 6, 5]), np.array([5, 1, 5])), blocks)
    for prompt, found in zip((PROMPTS[0], PROMPTS[1], PROMPTS[0]), then, strict=True):
        expected = plain(model, [*prompt, 6 if prompt is PROMPTS[1] else 5])
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize(
    "given",
    [
        {"hidden_act": "gelu"},
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}},
        {"dtype": torch.bfloat16},
    ],
    ids=["another activation", "positions by length", "bfloat16"],
)
def test_what_it_would_compute_otherwise_is_refused(given: dict[str, Any]) -> None:
    dtype = given.pop("dtype", torch.float32)
    assert not PackedLlama.takes(llama(**given).to(dtype))
