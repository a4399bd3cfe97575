"""The engine of vLLM: its AsyncLLM in this process, its workers in processes of their own.

It starts with the first revision that is to go live. The next one takes its place by a pause in keep mode: running
completions are frozen, the weights are read anew from the revision's folder, and the completions go on from where they
were, their caches computed again by the new weights. vLLM labels each step with the revision that drew it, so that a
completion that spans a swap says which tokens are whose. A revision of another shape, or whose first token is not what
the plain pass says (attune.policy.stored), is refused, and the one before it is put back from its folder.

What waits, waits here, in the queue that every engine has (attune.policy.queue): vLLM is given as many completions as
it runs at once. Where its cache is too small for those, it puts rollouts off before users.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any

from attune.domain.errors import AttuneError, CheckpointRefused, ConfigurationInvalid, ServerUnavailable
from attune.domain.generations import Purpose, Sampling
from attune.modeling.revisions import Held
from attune.platform.lifecycle import cancelled
from attune.policy.jobs import EngineLimits, Job, Tokens, check_fits, tell
from attune.policy.metrics import PolicyMetrics
from attune.policy.queue import JobQueue
from attune.policy.stored import PROBE_TEMPERATURE, StoredPolicy
from attune.policy.vllm.company import Company
from attune.policy.vllm.metrics import JobMetrics
from attune.policy.vllm.translation import has_ended, sampling_of, tokens_of

SHUTDOWN_TIMEOUT_S = 10.0
"""How long vLLM's processes may take to end before they are killed; nothing in them is worth keeping."""
log = logging.getLogger(__name__)
PRIORITY = {Purpose.USER: 0, Purpose.ROLLOUT: 1}
"""The lower goes first, in vLLM."""
PROBE_PRIORITY = -1
ENVIRONMENT = {
    "VLLM_WORKER_MULTIPROCESSING_METHOD": "spawn",  # a fork would take gRPC's threads half along
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # the one whose sampler worker.py follows
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}
OURS = frozenset(
    {"model", "tokenizer", "dtype", "load_format", "max_num_seqs", "scheduling_policy", "tensor_parallel_size"}
    | {"worker_extension_cls", "logprobs_mode", "speculative_config", "trust_remote_code"}
)
"""Engine arguments that are not for `vllm.arguments`: other settings say them, or what is recorded rests on them."""


class VllmEngine:
    """A PolicyEngine (attune.policy.engines). `arguments` are those of vLLM's AsyncEngineArgs, OURS excepted.

    ConfigurationInvalid where vLLM is not installed, or for an argument that is Attune's to say.
    """

    def __init__(
        self,
        limits: EngineLimits,
        metrics: PolicyMetrics,
        *,
        dtype: str = "float32",
        tensor_parallel_size: int = 1,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        if find_spec("vllm") is None:
            raise ConfigurationInvalid("there is no vLLM in this environment; see deploy/generation.md for one")
        if taken := OURS & set(arguments or {}):
            raise ConfigurationInvalid(f"vllm.arguments: {', '.join(sorted(taken))} is not for you to set here")
        self._limits = limits
        self._metrics = metrics
        self._arguments = {
            "dtype": dtype,
            "tensor_parallel_size": tensor_parallel_size,
            "max_num_seqs": limits.running,
            "load_format": "safetensors",
            "scheduling_policy": "priority",
            "worker_extension_cls": "attune.policy.vllm.worker.PolicyWorker",
        } | dict(arguments or {})
        self._llm: Any = None
        self._is_serving = asyncio.Event()
        self._held: Held[StoredPolicy] | None = None
        self._numbers = itertools.count()
        self._queue = JobQueue(limits, metrics)
        self._turns: dict[Job, asyncio.Event] = {}
        self._given: Counter[Job] = Counter()
        self._is_closed = False
        self.pause_reason: str | None = None

    @property
    def running_completions(self) -> int:
        return min(self._given.total(), self._limits.running)

    @property
    def queued_completions(self) -> int:
        return self._queue.completions + self._given.total() - self.running_completions

    # Requests

    async def generate(self, job: Job) -> AsyncGenerator[Tokens, None]:
        """As PolicyEngine says."""
        room = check_fits(job.prompt_ids, self._context(job.held.model))
        company = Company(self._limits, job.is_streaming)
        async with self._turn(job):
            saw_end = partial(self._saw_end, job, time.monotonic())
            tell([job], "prefill")
            with JobMetrics(job, self._metrics, saw_end) as measured:
                async with aclosing(self._outputs(job, room, PRIORITY[job.purpose])) as outputs:
                    async for output in outputs:
                        for completion in output.outputs:
                            for tokens in company.add(measured.add(tokens_of(completion, self._held))):
                                yield tokens

    def check_room(self, policy: StoredPolicy, sampling: Sampling, purpose: Purpose, deadline: float) -> None:
        """As PolicyEngine says."""
        if self._is_closed:
            raise has_ended()
        limit = min(sampling.max_tokens, self._context(policy))
        self._queue.check_room(sampling.completions, limit, purpose, deadline)

    @asynccontextmanager
    async def _turn(self, job: Job) -> AsyncIterator[None]:
        """From a job's turn to its end. DeadlineUnattainable, QueueFull, ServerUnavailable."""
        if self._is_closed:
            raise has_ended()
        self._queue.add(job)
        turn = self._turns[job] = asyncio.Event()
        try:
            self._give()
            await turn.wait()
            if self._is_closed or self._llm is None:
                raise has_ended()
            if error := self._queue.lateness(job):
                raise error
            yield
        finally:
            self._turns.pop(job, None)
            self._queue.drop(job)
            del self._given[job]
            self._give()

    def _give(self) -> None:
        """Lets those go on whose turn it is."""
        if not self.pause_reason:
            running = self._given.total()
            for job in self._queue.take(self._limits.running - running, is_idle=not running):
                self._given[job] = job.sampling.completions
                self._turns[job].set()
        self._metrics.running.set(self.running_completions)

    def _saw_end(self, job: Job, begun: float, tokens: int) -> None:
        """A completion that began then ended after so many tokens: its place is free."""
        if self._queue.completions:
            self._queue.pace.saw_turn((time.monotonic() - begun) / tokens)
        self._queue.pace.saw_end(tokens, job.limit)
        self._given[job] -= 1
        self._give()

    async def _outputs(self, job: Job, room: int, priority: int) -> AsyncGenerator[Any, None]:
        """What vLLM gives. ServerUnavailable if it ends meanwhile."""
        from vllm.inputs.engine import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        asked = self._llm.generate(
            tokens_input(list(job.prompt_ids)),
            sampling_of(job, room),
            f"{next(self._numbers)}",
            priority=priority,
        )
        try:
            async with aclosing(asked) as outputs:
                async for output in outputs:
                    yield output
        except (EngineDeadError, EngineGenerateError) as error:
            raise has_ended() from error

    def _context(self, policy: StoredPolicy) -> int:
        longest = self._llm.model_config.max_model_len if self._llm else policy.max_context
        return min(policy.max_context, longest)

    def pause(self, reason: str) -> None:
        """Admits nothing more; what runs goes on."""
        self.pause_reason = reason or "paused"

    def resume(self) -> None:
        self.pause_reason = None
        self._give()

    # Life

    async def run(self) -> None:
        """Works until cancelled; RuntimeError when vLLM has ended. Waiting callers get ServerUnavailable."""
        try:
            await self._is_serving.wait()
            await asyncio.wait([self._llm.output_handler])
            raise RuntimeError("vLLM has ended; its log says why")
        finally:
            self._is_closed = True
            for turn in self._turns.values():
                turn.set()
            if self._llm is not None:
                self._llm.output_processor.propagate_error(has_ended())
                await asyncio.shield(self._shut_down())

    async def activate(self, held: Held[StoredPolicy]) -> None:
        """Puts a revision's weights into the engine, which starts with the first one.

        CheckpointRefused for one that vLLM does not take or does not compute as the plain pass does; what was there
        before goes on. Anything else that fails here leaves unknown weights and ends the process.
        """
        before = self._held
        if before is None:
            await self._start(held)
        else:
            _check_same_shape(before, held)
            await self._swap(held)
        try:
            await self._check_probe(held)
        except AttuneError:
            if before is None:
                await self._shut_down()
            else:
                await self._swap(before)
            raise
        self._is_serving.set()

    async def _start(self, held: Held[StoredPolicy]) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        folder = str(held.model.folder)
        log.info("vLLM starts with %s", held.name)
        self._llm = await asyncio.to_thread(_new_llm, {"model": folder, **self._arguments})
        await self._llm.collective_rpc("end_with", args=(os.getpid(),))
        await self._llm.collective_rpc("report_at_temperature")
        await self._llm.update_weight_version(held.name)
        self._held = held

    async def _swap(self, held: Held[StoredPolicy]) -> None:
        begun, had_running = time.monotonic(), self.running_completions > 0
        # Clearing the caches moves what runs back to before its prefill, so that no key of the old weights is left.
        await self._llm.pause_generation(mode="keep", clear_cache=True)
        await self._llm.collective_rpc("take_weights", args=(str(held.model.folder),))
        await self._llm.update_weight_version(held.name)
        self._held = held
        await self._llm.resume_generation()
        self._metrics.frozen_s.observe(time.monotonic() - begun if had_running else 0.0)

    async def _check_probe(self, held: Held[StoredPolicy]) -> None:
        sampling = Sampling(max_tokens=1, temperature=PROBE_TEMPERATURE, top_p=0.5, seed=0)
        job = Job(held, held.model.probe_ids, sampling, Purpose.USER)
        try:
            async with aclosing(self._outputs(job, 1, PROBE_PRIORITY)) as outputs:
                (completion,) = [completion async for output in outputs for completion in output.outputs]
        except ServerUnavailable as error:
            raise CheckpointRefused(f"{held.name} is nothing that vLLM can run; its log says why") from error
        found = tokens_of(completion, held)
        held.model.check_wrote(held.name, found.token_ids[0], found.logprobs[0])

    async def _shut_down(self) -> None:
        """Back to before the start, from which another revision may start it."""
        llm, self._llm, self._held = self._llm, None, None
        await cancelled(llm.output_handler)  # which would take the end of the workers for a failure
        await asyncio.to_thread(llm.shutdown, SHUTDOWN_TIMEOUT_S)


def _new_llm(arguments: dict[str, Any]) -> Any:
    """An AsyncLLM; blocks for as long as vLLM takes to start. TypeError for an argument that it does not know."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform
    from vllm.v1.engine.async_llm import AsyncLLM

    if current_platform.is_cpu():
        # There vLLM takes back a draw after part of a prompt, for which a CPU's generator has no way, and ends.
        arguments = arguments | {"enable_chunked_prefill": False}
    return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))


def _check_same_shape(before: Held[StoredPolicy], held: Held[StoredPolicy]) -> None:
    old, new = before.model.shape, held.model.shape
    if differing := sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key)):
        raise CheckpointRefused(
            f"{held.name} has another shape than {before.name}, which the engine runs: {', '.join(differing[:3])}"
        )
