"""The Llama shape on a CPU in float32: its forward pass written out, with weights packed for oneDNN.

On small models most of a pass is not arithmetic: the modules of transformers make about forty operations a layer, and
their matrix products go through a library that is half as fast here on some processors. This pass makes eight: one
product for queries, keys and values, one for gate and up, and the kernels of attune.policy.kernels between them. The
newest tokens of rows and the whole prompts of new rows go through it side by side, without padding. It takes Llama and
Qwen2 (biases on queries, keys and values), grouped heads included, with positions that do not depend on the length of
the text, and refuses (`takes`) all else.

Weights are read from the model once, when a decoder is made for it, and kept packed beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedModel, Qwen2ForCausalLM

from attune.policy.batch import Batch
from attune.policy.blocks import Blocks
from attune.policy.kernels import attend, gate, normalise

FAMILIES = (LlamaForCausalLM, Qwen2ForCausalLM)
ROPE = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary positions whose angles follow from the position alone."""
TOKENS_HINT = 64
"""Tokens for which the packing is best; any number works."""
TOKENS_STEP = 8
"""Products are made for multiples of it, for the first one of each number costs milliseconds to prepare."""


class PackedLinear:
    """A product with fixed weights: (N, in) -> (N, out). Several modules of one input become one product."""

    def __init__(self, *modules: nn.Linear) -> None:
        weight = torch.cat([module.weight.detach() for module in modules])
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), TOKENS_HINT)
        biases = [module.bias for module in modules]
        self._bias = None if biases[0] is None else torch.cat([bias.detach() for bias in biases])

    def __call__(self, x: Tensor) -> Tensor:
        return cast(Tensor, torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], ""))


@dataclass(frozen=True)
class _Norm:
    weight: np.ndarray
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        normed = torch.empty_like(x)
        normalise(x.numpy(), self.weight, self.eps, normed.numpy())
        return normed


class _Layer:
    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.before_attention, self.before_mlp = _norm(layer.input_layernorm), _norm(layer.post_attention_layernorm)
        self.qkv = PackedLinear(attention.q_proj, attention.k_proj, attention.v_proj)
        self.out = PackedLinear(attention.o_proj)
        self.gate_up = PackedLinear(mlp.gate_proj, mlp.up_proj)
        self.down = PackedLinear(mlp.down_proj)


class PackedLlama:
    """The forward pass of one model; see attune.policy.forward.Forward."""

    @staticmethod
    def takes(model: PreTrainedModel) -> bool:
        """Whether this pass gives the numbers of the model; a subclass may compute others."""
        config = model.config
        return (
            type(model) in FAMILIES
            and model.device.type == "cpu"
            and model.dtype == torch.float32
            and config.hidden_act == "silu"
            and config.rope_parameters.get("rope_type", "default") in ROPE
            and type(model.get_output_embeddings()) is nn.Linear
            and torch.backends.mkldnn.is_available()
        )

    def __init__(self, model: PreTrainedModel) -> None:
        config, trunk = model.config, cast(Any, model.base_model)
        self._embedding = trunk.embed_tokens.weight.detach()
        self._layers = [_Layer(layer) for layer in trunk.layers]
        self._norm = _norm(trunk.norm)
        self._head = PackedLinear(cast(nn.Linear, model.get_output_embeddings()))
        self._heads, self._mlp_width = int(config.num_attention_heads), int(config.intermediate_size)
        self._width = int(getattr(config, "head_dim", None) or config.hidden_size // self._heads)
        self._vector = torch.zeros(1, int(config.num_key_value_heads), 1, self._width)
        self._angles = self._cos_and_sin(trunk.rotary_emb, int(config.max_position_embeddings))

    @torch.inference_mode()
    def _cos_and_sin(self, rotary: nn.Module, positions: int) -> tuple[np.ndarray, np.ndarray]:
        """(positions, width / 2) each, for both halves of a head are turned by the same angles."""
        cos, sin = rotary(self._embedding[:1, None], torch.arange(positions).unsqueeze(0))
        half = self._width // 2
        return cos[0, :, :half].contiguous().numpy(), sin[0, :, :half].contiguous().numpy()

    def __call__(self, batch: Batch, blocks: Blocks) -> Tensor:
        blocks.make_room(self._vector, len(batch), batch.longest)
        tokens = batch.tokens()
        padding = -len(tokens.ids) % TOKENS_STEP if len(tokens.ids) > TOKENS_STEP else 0
        x = functional.embedding(torch.from_numpy(np.pad(tokens.ids, (0, padding))), self._embedding)
        seen, gated = x.new_zeros(len(x), self._heads * self._width), x.new_empty(len(x), self._mlp_width)
        for layer, block in zip(self._layers, blocks.blocks, strict=True):
            qkv = layer.qkv(layer.before_attention(x)).numpy()
            attend(qkv, self._angles, block.arrays, tokens.rows, tokens.positions, seen.numpy())
            x += layer.out(seen)
            gate(layer.gate_up(layer.before_mlp(x)).numpy(), gated.numpy())
            x += layer.down(gated)
        for source, target, length in batch.copies():
            blocks.move_row(source, target, length)
        return self._head(self._norm(x[torch.from_numpy(tokens.ends)]))


def _norm(module: Any) -> _Norm:
    return _Norm(module.weight.detach().numpy(), float(module.variance_epsilon))
