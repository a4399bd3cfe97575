"""Inside vLLM's workers: log-probabilities as Attune records them, and weights read anew, all of them.

vLLM itself reports a token's log-probability either before the temperature or after top-p and top-k; here it is at the
temperature, over the whole vocabulary. vLLM loads `PolicyWorker` into its workers by name (worker_extension_cls).
Imported nowhere else, for vLLM is in an environment of its own.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.v1.sample.sampler import Sampler

SMALLEST_TEMPERATURE = 1e-5
"""Below it vLLM takes a row for greedy; only its warm-up has such."""


class PolicyWorker:
    """What a worker of vLLM gains."""

    model_runner: Any

    def report_at_temperature(self) -> None:
        """Puts the sampler of this module in the place of vLLM's. RuntimeError if that is not the one it follows."""
        sampler = self.model_runner.sampler
        if type(sampler) is not Sampler:
            raise RuntimeError(f"{type(sampler).__qualname__} is not the sampler that Attune knows how to follow")
        self.model_runner.sampler = ReportingSampler(use_fp64_gumbel=sampler.use_fp64_gumbel)

    def end_with(self, pid: int) -> None:
        """Ends vLLM's processes once that process has ended, should it be killed (Linux); elsewhere nothing."""
        if hasattr(os, "pidfd_open"):
            watched = os.pidfd_open(pid), os.getppid()
            threading.Thread(target=_end_when_over, args=watched, daemon=True).start()

    def take_weights(self, folder: str) -> None:
        """Puts the weights of a model folder in the place of those that are there; of the same shape."""
        self.model_runner.reload_weights(weights_path=folder)
        # A head that is tied to the embedding loads nothing itself, and on CPUs would go on with what it had packed
        # from the old weights.
        for module in self.model_runner.get_model().modules():
            if isinstance(module, ParallelLMHead):
                module.quant_method.process_weights_after_loading(module)


def _end_when_over(process: int, engine: int) -> None:
    """Waits for the end of a process, by its descriptor, and kills the engine, which is this one's parent, and this."""
    select.select([process], [], [])
    if os.getppid() == engine:
        os.kill(engine, signal.SIGKILL)
    os._exit(1)


class ReportingSampler(Sampler):
    """Draws as vLLM does: (B, V) logits to tokens, and to log-softmax(logits / temperature) over the vocabulary."""

    def forward(
        self,
        logits: Tensor,
        sampling_metadata: Any,
        predict_bonus_token: bool = False,
        logprobs_mode_override: str | None = None,
    ) -> Any:
        # With processed ones the base class takes what `sample` returns and computes none of its own.
        return super().forward(logits, sampling_metadata, predict_bonus_token, "processed_logprobs")

    def sample(
        self, logits: Tensor, sampling_metadata: Any, logprobs_mode_override: str | None = None
    ) -> tuple[Tensor, Tensor | None]:
        # Computed first: the base class divides and truncates the logits in place.
        logprobs = None
        if sampling_metadata.max_num_logprobs is not None:
            logprobs = logprobs_at(logits, sampling_metadata.temperature)
        drawn, _ = super().sample(logits, sampling_metadata, "raw_logprobs")
        return drawn, logprobs


def logprobs_at(logits: Tensor, temperature: Tensor | None) -> Tensor:
    """(B, V) logits, (B,) temperatures or None for all greedy -> (B, V) float32."""
    scaled = logits.float()
    if temperature is not None:
        scaled = scaled / temperature.clamp(min=SMALLEST_TEMPERATURE).unsqueeze(1)
    return torch.log_softmax(scaled, dim=-1)
