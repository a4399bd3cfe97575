"""The Llama shape on a CPU in float32: its forward pass written out, with weights packed for oneDNN.

On small models most of a decode step is not arithmetic: the modules of transformers make about forty operations a
layer, and their matrix products go through a library that is half as fast here on some processors. This pass makes
sixteen, one product for queries, keys and values, one for gate and up, and attends by plain batched products over the
rows' blocks. It takes Llama and Qwen2 (biases on queries, keys and values), grouped heads included, with positions
that do not depend on the length of the text, and refuses (`takes`) all else.

Weights are read from the model once, when a decoder is made for it, and kept packed beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedModel, Qwen2ForCausalLM

from attune.modeling.batching import PaddedBatch
from attune.policy.blocks import Blocks

FAMILIES = (LlamaForCausalLM, Qwen2ForCausalLM)
ROPE = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary positions whose angles follow from the position alone."""
ROWS_HINT = 64
"""Rows for which the packing is best; any number works."""

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, queries, keys, values), each (N, heads, width) -> (N, heads x width)."""


class PackedLinear:
    """A product with fixed weights: (N, in) -> (N, out). Several modules of one input become one product."""

    def __init__(self, *modules: nn.Linear) -> None:
        weight = torch.cat([module.weight.detach() for module in modules])
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS_HINT)
        biases = [module.bias for module in modules]
        self._bias = None if biases[0] is None else torch.cat([bias.detach() for bias in biases])

    def __call__(self, x: Tensor) -> Tensor:
        return cast(Tensor, torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], ""))


@dataclass(frozen=True)
class _Norm:
    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)


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
        self._heads, self._kv_heads = int(config.num_attention_heads), int(config.num_key_value_heads)
        self._width = int(getattr(config, "head_dim", None) or config.hidden_size // self._heads)
        self._cos, self._sin = self._angles(trunk.rotary_emb, int(config.max_position_embeddings))

    @torch.inference_mode()
    def _angles(self, rotary: nn.Module, positions: int) -> tuple[Tensor, Tensor]:
        """(positions, 1, width) each; the sine carries the sign with which its half is turned."""
        cos, sin = rotary(self._embedding[:1, None], torch.arange(positions).unsqueeze(0))
        half = self._width // 2
        return cos[0].unsqueeze(1), torch.cat([-sin[0, :, :half], sin[0, :, half:]], -1).unsqueeze(1)

    def prefill(self, batch: PaddedBatch) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        b, t = batch.input_ids.shape
        found: list[tuple[Tensor, Tensor]] = []

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            q, k, v = (x.unflatten(0, (b, t)).transpose(1, 2) for x in (q, k, v))
            found.append((k, v))
            # Padding stands behind every real token, so a causal mask hides it from them.
            seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])
            return seen.transpose(1, 2).reshape(b * t, -1)

        hidden = self._trunk(batch.input_ids.flatten(), torch.arange(t).repeat(b), attend)
        ends = torch.arange(b) * t + batch.lengths - 1
        return self._head(self._norm(hidden[ends])), found

    def step(self, last: Tensor, positions: Tensor, blocks: Blocks) -> Tensor:
        attend = _over_blocks(blocks, self._hidden(positions, blocks.width), self._width**-0.5)
        return self._head(self._norm(self._trunk(last, positions, attend)))

    def _hidden(self, positions: Tensor, width: int) -> Tensor:
        """What is added to the scores of each row and head of keys: (R x kv heads, 1, width)."""
        hidden = torch.arange(width) > positions.repeat_interleave(self._kv_heads).unsqueeze(1)
        mask = torch.zeros(hidden.shape).masked_fill_(hidden, torch.finfo(torch.float32).min)
        return mask.unsqueeze(1)

    def _trunk(self, ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """Hidden states (N, d) of the tokens `ids` (N,) at `positions` (N,)."""
        x = functional.embedding(ids, self._embedding)
        cos, sin = self._cos[positions], self._sin[positions]
        turned, all_heads = self._heads + self._kv_heads, self._heads + 2 * self._kv_heads
        for number, layer in enumerate(self._layers):
            qkv = layer.qkv(layer.before_attention(x)).unflatten(1, (all_heads, self._width))
            qk = qkv[:, :turned]
            qk = (qk * cos).addcmul_(qk.roll(self._width // 2, -1), sin)
            x = x + layer.out(attend(number, qk[:, : self._heads], qk[:, self._heads :], qkv[:, turned:]))
            gate, up = layer.gate_up(layer.before_mlp(x)).chunk(2, -1)
            x = x + layer.down(functional.silu(gate).mul_(up))
        return x


def _over_blocks(blocks: Blocks, hidden: Tensor, scale: float) -> Attend:
    """Each row's one query over what its row of the block holds."""

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        block = blocks.blocks[layer]
        block.write(k, v)
        keys, values = block.content
        heads, seen = keys.shape[1], q.new_empty(q.shape)
        queries = q.reshape(len(q) * heads, -1, q.shape[2])  # the heads that share keys stand together
        for group in blocks.groups:
            lines = slice(group.first * heads, group.end * heads)
            k, v = (x[group.first : group.end, :, : group.width].flatten(0, 1) for x in (keys, values))
            mask = hidden[lines, :, : group.width].expand(-1, queries.shape[1], -1)
            shares = torch.baddbmm(mask, queries[lines], k.transpose(1, 2), alpha=scale).softmax(-1)
            torch.bmm(shares, v, out=seen.view(queries.shape)[lines])
        return seen.view(len(q), -1)

    return attend


def _norm(module: Any) -> _Norm:
    return _Norm(module.weight.detach(), module.variance_epsilon)
