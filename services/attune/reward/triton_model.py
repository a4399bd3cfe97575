"""A reward revision inside Triton: attune.reward.triton puts this file, as model.py, beside the revision's weights.

It runs in Triton's Python backend, whose interpreter needs torch, transformers and safetensors; Attune itself never
imports it. Input are `input_ids` and `attention_mask` (B, T) int64, padded on the right; output is `raw_score` (B, 1)
float32. The arithmetic is that of attune.modeling.reward_model, with which the engine compares it at each load. Only
safetensors are read; weights that do not fit make the load fail, and Triton says so to whoever asked for it.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import torch
import triton_python_backend_utils as pb_utils
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel


class TritonPythonModel:
    """What Triton's Python backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the weights beside this file to the device of this instance."""
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        if threads := int(parameters["threads"]):
            torch.set_num_threads(threads)
        torch.set_flush_denormal(True)
        is_gpu = args["model_instance_kind"] == "GPU"
        self._device = f"cuda:{args['model_instance_device_id']}" if is_gpu else "cpu"
        folder = Path(__file__).parent / "weights"
        trunk = AutoModel.from_pretrained(
            folder, dtype=getattr(torch, parameters["dtype"]), local_files_only=True, use_safetensors=True
        )
        self._trunk = trunk.to(self._device).eval()
        self._head = {name: t.to(self._device) for name, t in load_file(folder / "reward_head.safetensors").items()}
        self._takes_positions = "position_ids" in inspect.signature(trunk.forward).parameters

    def execute(self, requests: list[Any]) -> list[Any]:
        """One answer a request; each is a batch that the caller has padded."""
        return [self._answer(request) for request in requests]

    # DLPack and not numpy: a backend built for numpy 1 answers with no bytes where numpy 2 is installed.
    def _answer(self, request: Any) -> Any:
        ids, mask = (
            torch.from_dlpack(pb_utils.get_input_tensor_by_name(request, name)).to(self._device)
            for name in ("input_ids", "attention_mask")
        )
        with torch.inference_mode():
            scores = self._scores(ids, mask).cpu()
        return pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("raw_score", scores)])

    def _scores(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, T), (B, T) -> (B, 1) float32: the head at each row's last real token."""
        places = {"position_ids": (mask.cumsum(-1) - 1).clamp(min=0)} if self._takes_positions else {}
        hidden = self._trunk(input_ids=ids, attention_mask=mask, use_cache=False, **places).last_hidden_state
        last = hidden[torch.arange(len(ids), device=self._device), mask.sum(-1) - 1]
        return torch.nn.functional.linear(last.float(), self._head["weight"], self._head["bias"])
