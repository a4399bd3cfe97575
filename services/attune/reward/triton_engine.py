"""Scoring in a Triton server, through tritonclient: each loaded revision is a version of one model there.

A revision is verified here as the transformers engine verifies it, copied into the model repository
(attune.reward.triton_repository), loaded through the model-control API, and made to give the scores that transformers
gives here; the weights in this process are then dropped. Triton must run with --model-control-mode=explicit on that
repository. A version leaves Triton when nothing here holds its model any longer.

Asked to load, Triton loads every version in the repository anew and serves the old instances until all are ready; if
one fails, all stays as it was. A Triton that has restarted holds nothing and is told to load again at the next batch.
Refused: a revision that Triton cannot load, or that scores otherwise there. Triton away is EngineUnavailable.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc
import torch
from transformers import PreTrainedTokenizerBase
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from attune.domain.errors import AttuneError, CheckpointRefused, EngineUnavailable
from attune.domain.revisions import RevisionName
from attune.modeling.batching import pad
from attune.modeling.reward_model import LoadedRewardModel, Normalisation, load_reward_model
from attune.modeling.tokenizer import completion_ids
from attune.reward.triton_repository import TritonRepository

log = logging.getLogger(__name__)
T = TypeVar("T")
RETRY_AFTER_S = 1.0
"""When callers may come back to a Triton that is away: a restart takes seconds."""
AWAY = {str(grpc.StatusCode.UNAVAILABLE), str(grpc.StatusCode.DEADLINE_EXCEEDED)}
PROBES = ("ok", "ok, and a second one, so that the first is padded")
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 1e-1}
"""How far a score may be from transformers' here, as a share of its size, or of 1 if it is smaller."""


@dataclass(frozen=True)
class Timeouts:
    """Longest times for one batch and for one load, in seconds."""

    score_s: float = 30.0
    load_s: float = 300.0


@dataclass(frozen=True, eq=False)
class TritonRewardModel:
    """A revision that Triton holds; what its tokens and scores mean is known here."""

    tokenizer: PreTrainedTokenizerBase
    max_context: int
    normalisation: Normalisation
    _score: Callable[[Sequence[Sequence[int]]], list[float]]

    def raw_scores(self, inputs: Sequence[Sequence[int]]) -> list[float]:
        """The score of each list of tokens, as one batch. EngineUnavailable; CheckpointRefused if Triton can be
        reached and still cannot compute with this revision."""
        return self._score(inputs)


class TritonEngine:
    """A RewardEngine on Triton's gRPC at `url`. Models are scored on one thread and loaded on others."""

    def __init__(
        self, url: str, model: str, repository: TritonRepository, dtype: torch.dtype, timeouts: Timeouts
    ) -> None:
        self._url, self._model, self._dtype, self._timeouts = url, model, dtype, timeouts
        self._repository = repository
        reconnect = ("grpc.max_reconnect_backoff_ms", int(RETRY_AFTER_S * 1000))
        self._client = InferenceServerClient(url, channel_args=[reconnect])
        self._control = threading.Lock()
        self._holders: Counter[int] = Counter()
        self._retiring = ThreadPoolExecutor(1, thread_name_prefix="triton-unload")

    def load(self, name: RevisionName, folder: Path, expected_tokenizer_hash: str | None) -> TritonRewardModel:
        """See RewardEngine."""
        self._ask("cannot be reached", lambda: self._client.is_server_live(client_timeout=self._timeouts.score_s))
        here = load_reward_model(folder, "cpu", self._dtype, expected_tokenizer_hash)
        pad_id = int(here.tokenizer.pad_token_id)

        def score(inputs: Sequence[Sequence[int]]) -> list[float]:
            return self._raw_scores(name.number, inputs, pad_id)

        there = TritonRewardModel(here.tokenizer, here.max_context, here.normalisation, score)
        with self._control:
            self._add(name, folder)
        weakref.finalize(there, self._retire, name.number).atexit = False
        check_agrees(here, there, str(name), TOLERANCE[self._dtype])
        return there

    def close(self) -> None:
        """Frees what Triton holds; a Triton that is away has freed it."""
        self._retiring.shutdown(cancel_futures=True)
        with self._control:
            for number in self._repository.versions:
                self._repository.remove(number)
            self._logged(self._unload_all)
        self._client.close()

    def _add(self, name: RevisionName, folder: Path) -> None:
        is_there = self._holders[name.number] > 0
        if not is_there:
            self._repository.add(name.number, folder)
        try:
            self._sync(f"refuses {name}")
        except AttuneError:
            if not is_there:
                self._repository.remove(name.number)
            raise
        self._holders[name.number] += 1

    def _sync(self, failure: str) -> None:
        """Triton then serves what lies in the repository."""

        def load() -> None:
            self._client.load_model(self._model, client_timeout=self._timeouts.load_s)

        self._ask(failure, load)

    def _retire(self, number: int) -> None:
        """Called wherever the last holder of a model lets go, so the work is done elsewhere."""
        try:
            self._retiring.submit(self._unload, number)
        except RuntimeError:
            log.debug("the engine has closed, and version %d with it", number)

    def _unload(self, number: int) -> None:
        with self._control:
            self._holders[number] -= 1
            if self._holders[number] > 0:
                return
            self._repository.remove(number)
            if self._repository.versions:
                self._logged(lambda: self._sync(f"does not unload version {number}"))
            else:
                self._logged(self._unload_all)

    def _unload_all(self) -> None:
        """Triton then serves no version: asked to load a model without versions it would keep the last one."""

        def unload() -> None:
            self._client.unload_model(self._model, client_timeout=self._timeouts.score_s)

        self._ask(f"does not unload {self._model}", unload)

    @staticmethod
    def _logged(unload: Callable[[], None]) -> None:
        """What Triton does not unload costs it memory, and nobody an answer."""
        try:
            unload()
        except AttuneError as error:
            log.warning("%s", error.message)

    def _raw_scores(self, number: int, inputs: Sequence[Sequence[int]], pad_id: int) -> list[float]:
        def score() -> list[float]:
            return self._infer(number, inputs, pad_id)

        try:
            return self._ask("does not score", score)
        except AttuneError:
            if self._serves(number):
                raise
        with self._control:
            self._sync("has restarted and does not load its revisions")
        return self._ask("does not score", score)

    def _infer(self, number: int, inputs: Sequence[Sequence[int]], pad_id: int) -> list[float]:
        batch = pad(inputs, pad_id)
        tensors = []
        for name, tensor in (("input_ids", batch.input_ids), ("attention_mask", batch.attention_mask)):
            tensors.append(InferInput(name, list(tensor.shape), "INT64").set_data_from_numpy(tensor.numpy()))
        answer = self._client.infer(self._model, tensors, str(number), client_timeout=self._timeouts.score_s)
        return answer.as_numpy("raw_score").squeeze(-1).tolist()

    def _serves(self, number: int) -> bool:
        """Whether Triton has the version; one that cannot be asked is taken to have it."""
        try:
            return self._client.is_model_ready(self._model, str(number), client_timeout=self._timeouts.score_s)
        except InferenceServerException:
            return True

    def _ask(self, failure: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except InferenceServerException as error:
            words = f"Triton at {self._url} {failure}: {_words(error)}"
            if error.status() in AWAY:
                raise EngineUnavailable(words, retry_after_s=RETRY_AFTER_S) from error
            raise CheckpointRefused(words) from error


def check_agrees(here: LoadedRewardModel, there: TritonRewardModel, name: str, tolerance: float) -> None:
    """CheckpointRefused if Triton scores otherwise than transformers here: another version, or other arithmetic."""
    inputs = [completion_ids(here.tokenizer, text)[-here.max_context :] for text in PROBES]
    for wanted, found in zip(here.raw_scores(inputs), there.raw_scores(inputs), strict=True):
        if not abs(found - wanted) <= tolerance * max(1.0, abs(wanted)):
            raise CheckpointRefused(f"{name} scores {found:.6g} in Triton and {wanted:.6g} here")


def _words(error: InferenceServerException) -> str:
    """The first line of what Triton said; the others are a traceback."""
    return str(error.message()).partition("\n")[0]
