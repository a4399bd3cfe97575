"""What vLLM's workers gain, in an environment that has vLLM."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.vllm import environment_of_vllm

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

LOGPROBS = """
import torch
from attune.policy.vllm.worker import logprobs_at

logits = torch.tensor([[0.0, 2.0, -1.0], [3.0, 1.0, 1.0]], dtype=torch.bfloat16)
found = logprobs_at(logits, torch.tensor([0.5, 2.0]))
assert found.dtype == torch.float32
assert torch.allclose(found[0], torch.log_softmax(torch.tensor([0.0, 4.0, -2.0]), 0)), found
assert torch.allclose(found[1], torch.log_softmax(torch.tensor([1.5, 0.5, 0.5]), 0)), found
assert torch.allclose(logprobs_at(logits, None)[1], torch.log_softmax(torch.tensor([3.0, 1.0, 1.0]), 0))
assert torch.isfinite(logprobs_at(logits, torch.zeros(2))).any()
"""
TAKEN = """
from types import SimpleNamespace
from attune.policy.vllm.worker import ReportingSampler, PolicyWorker
from vllm.v1.sample.sampler import Sampler

worker = PolicyWorker()
worker.model_runner = SimpleNamespace(sampler=Sampler())
worker.report_at_temperature()
assert type(worker.model_runner.sampler) is ReportingSampler
try:
    worker.report_at_temperature()
except RuntimeError as error:
    assert "ReportingSampler is not the sampler" in str(error), error
else:
    raise AssertionError("an unknown sampler was replaced")
"""


@pytest.mark.parametrize("script", [LOGPROBS, TAKEN], ids=["logprobs", "taken"])
def test_the_sampler(vllm_python: Path, script: str) -> None:
    done = subprocess.run(
        [str(vllm_python), "-c", script], env=environment_of_vllm(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
