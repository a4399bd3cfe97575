"""Between a job and vLLM: its sampling as vLLM's parameters, and vLLM's outputs as what its completions gained."""

from __future__ import annotations

from typing import Any

from attune.domain.errors import ServerUnavailable
from attune.domain.generations import FinishReason, RevisionSpan
from attune.modeling.revisions import Held
from attune.policy.jobs import RETRY_AFTER_S, Job, Tokens
from attune.policy.sampling import stream_of
from attune.policy.stored import StoredPolicy


def sampling_of(job: Job, room: int) -> Any:
    """A job's sampling as vLLM's SamplingParams; `room` is what the context leaves to a completion, in tokens."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    s, max_tokens = job.sampling, min(job.sampling.max_tokens, room)
    return SamplingParams(
        n=s.completions,
        max_tokens=max_tokens,
        temperature=s.temperature,
        top_p=s.top_p,
        top_k=s.top_k,
        seed=seed_of(s.seed or 0),
        stop=list(s.stop),
        detokenize=bool(s.stop),
        # The one EOS of the tokenizer; vLLM would take those of the generation configuration besides.
        ignore_eos=True,
        stop_token_ids=[int(job.held.model.tokenizer.eos_token_id)],
        logprobs=0,
        flat_logprobs=True,
        output_kind=RequestOutputKind.DELTA,
        # Who does not stream is told of the first token and of the end, by which the engine measures.
        stream_interval=1 if job.is_streaming else max_tokens,
    )


def seed_of(seed: int) -> int:
    """vLLM adds the index of a completion to its seed; mixed, so that those of nearby seeds have nothing in common."""
    return int(stream_of(seed, 0)) >> 2


def tokens_of(completion: Any, held: Held[StoredPolicy] | None) -> Tokens:
    """An output of vLLM as what a completion gained. ServerUnavailable if vLLM gave it up."""
    token_ids = tuple(completion.token_ids)
    return Tokens(
        completion.index,
        token_ids,
        tuple(completion.logprobs.logprobs) if token_ids else (),
        _finish_reason(completion),
        held.name if held else "",
        tuple(RevisionSpan(v.version, v.start, v.end - v.start) for v in completion.weight_versions or ()),
    )


def _finish_reason(completion: Any) -> FinishReason | None:
    if completion.finish_reason is None:
        return None
    if completion.finish_reason == "stop":
        return FinishReason.STOP_STRING if isinstance(completion.stop_reason, str) else FinishReason.EOS
    if completion.finish_reason == "length":
        return FinishReason.LENGTH
    raise has_ended()


def has_ended() -> ServerUnavailable:
    """The error of a job that vLLM did not bring to its end."""
    return ServerUnavailable("the engine has ended", retry_after_s=RETRY_AFTER_S)
