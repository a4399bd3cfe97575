"""A reward model in Triton as its users would serve one: what the dynamic batcher brings is scored as one batch.

Runs in Triton's Python backend, beside a copy of attune.reward.triton_model, whose arithmetic and answers it keeps.
"""

from __future__ import annotations

from typing import Any

import reward_script
import torch
import triton_python_backend_utils as pb_utils


class TritonPythonModel(reward_script.TritonPythonModel):
    """What Triton's Python backend looks for."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """The requests of a batch have one shape: Triton's batcher sees to that."""
        ids, mask = (
            torch.cat([torch.from_dlpack(pb_utils.get_input_tensor_by_name(one, name)) for one in requests])
            for name in ("input_ids", "attention_mask")
        )
        with torch.inference_mode():
            scores = self._scores(ids, mask)
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("raw_score", row.reshape(1, 1))]) for row in scores
        ]
