"""Scoring in Triton: the scores of the transformers engine, swaps, refusals, and a Triton that goes away."""

from __future__ import annotations

import asyncio
import random
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from attune.domain.errors import CheckpointRefused, EngineUnavailable
from attune.domain.prompts import Prompt
from attune.domain.revisions import RevisionName
from attune.modeling.revisions import LoadedRevisions
from attune.reward.engine import RewardEngine, ScoringModel, TransformersEngine
from attune.reward.metrics import RewardMetrics
from attune.reward.scorer import BatchLimits, Pair, Scored, Scorer
from attune.reward.triton_engine import Timeouts, TritonEngine
from attune.reward.triton_repository import TritonRepository
from prometheus_client import CollectorRegistry
from support.eventually import eventually_sync
from support.processes import free_port
from tiny_models import tiny_reward_folder
from triton_server import Triton
from tritonclient.grpc import InferenceServerClient

real = [pytest.mark.triton, pytest.mark.timeout(300)]
LIMITS = BatchLimits(batch_pairs=5, batch_tokens=150)
TIMEOUTS = Timeouts(score_s=10, load_s=120)
INPUTS = [[5, 6, 7, 9, 11, 1], [8, 1], [12, 13, 14, 1]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("rewards")
    return [tiny_reward_folder(root / str(seed), seed=seed) for seed in (1, 2)]


class Spoilt(TritonRepository):
    """A repository whose versions are spoilt on their way to Triton, once `spoil` is set."""

    spoil: Callable[[Path], None] | None = None

    def add(self, number: int, weights: Path) -> None:
        super().add(number, weights)
        if self.spoil:
            self.spoil(self._model / str(number) / "weights")


class Served:
    """An engine on a Triton, under a model name that no other test has."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url, self.model = url, f"support-{uuid.uuid4()}"
        self.repository = Spoilt(folder, self.model, batch_pairs=LIMITS.batch_pairs, dtype="float32", threads=1)
        self.engine = TritonEngine(url, self.model, self.repository, torch.float32, TIMEOUTS)

    def name(self, number: int) -> RevisionName:
        return RevisionName.parse(f"rewards/{self.model}/revisions/{number}")

    @property
    def ready(self) -> list[str]:
        """The versions that Triton serves."""
        with InferenceServerClient(self.url) as client:
            index = client.get_model_repository_index().models
        return sorted(found.version for found in index if found.name == self.model and found.state == "READY")


@pytest.fixture
def served(triton: Triton) -> Iterator[Served]:
    made = Served(triton.repository, triton.url)
    yield made
    made.engine.close()


def here(folder: Path) -> list[float]:
    return TransformersEngine().load(RevisionName.parse("rewards/a/revisions/1"), folder, None).raw_scores(INPUTS)


def pairs(count: int) -> list[Pair]:
    draw = random.Random(0)
    words = ("order", "kettle", "refund", "4711", "Ada", "hello")
    return [
        (Prompt.user(" ".join(draw.choices(words, k=draw.randint(1, 4)))), " ".join(draw.choices(words, k=3)))
        for _ in range(count)
    ]


async def scored_by(engine: RewardEngine, name: RevisionName, folder: Path, asked: list[Pair]) -> Scored:
    """What a scorer on the engine answers."""
    revisions = LoadedRevisions(str(name.model_name), lambda _: engine.load(name, folder, None), lambda _: True)
    assert revisions.follow("stable", str(name)).error is None
    scorer = Scorer(revisions, LIMITS, RewardMetrics(CollectorRegistry()))
    running = asyncio.create_task(scorer.run())
    try:
        return await scorer.score(asked)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def scores_again(model: ScoringModel) -> bool:
    try:
        return bool(model.raw_scores(INPUTS))
    except EngineUnavailable:
        return False


def truncated(weights: Path) -> None:
    content = (weights / "model.safetensors").read_bytes()
    (weights / "model.safetensors").write_bytes(content[:-100])


def test_without_a_triton_a_load_may_be_tried_again(tmp_path: Path, folders: list[Path]) -> None:
    served = Served(tmp_path / "triton", f"127.0.0.1:{free_port()}")
    with pytest.raises(EngineUnavailable, match="cannot be reached") as raised:
        served.engine.load(served.name(1), folders[0], None)
    assert raised.value.retry_after_s
    assert served.repository.versions == ()
    served.engine.close()


class TestWithTriton:
    pytestmark = real

    async def test_scores_are_those_of_transformers(self, served: Served, folders: list[Path]) -> None:
        asked = pairs(30)
        wanted = await scored_by(TransformersEngine(), served.name(1), folders[0], asked)
        found = await scored_by(served.engine, served.name(1), folders[0], asked)
        assert found.revision == wanted.revision
        assert found.raw == pytest.approx(wanted.raw, abs=1e-5)
        assert found.normalised == pytest.approx(wanted.normalised, abs=1e-5)

    def test_versions_stand_side_by_side_until_nobody_holds_them(self, served: Served, folders: list[Path]) -> None:
        one = served.engine.load(served.name(1), folders[0], None)
        two = served.engine.load(served.name(2), folders[1], None)
        assert served.ready == ["1", "2"]
        assert one.raw_scores(INPUTS) == pytest.approx(here(folders[0]), abs=1e-5)
        assert two.raw_scores(INPUTS) == pytest.approx(here(folders[1]), abs=1e-5)
        del one
        eventually_sync(lambda: served.ready == ["2"], 30)
        assert two.raw_scores(INPUTS) == pytest.approx(here(folders[1]), abs=1e-5)

    def test_what_triton_refuses_is_refused_and_the_old_one_scores_on(
        self, served: Served, folders: list[Path]
    ) -> None:
        one = served.engine.load(served.name(1), folders[0], None)
        served.repository.spoil = truncated
        with pytest.raises(CheckpointRefused, match=r"refuses rewards/.*/2: .*SafetensorError"):
            served.engine.load(served.name(2), folders[1], None)
        assert served.repository.versions == (1,)
        assert one.raw_scores(INPUTS) == pytest.approx(here(folders[0]), abs=1e-5)

    def test_other_scores_there_than_here_are_refused(self, served: Served, folders: list[Path]) -> None:
        def exchanged(weights: Path) -> None:
            shutil.copy(folders[1] / "model.safetensors", weights)

        served.repository.spoil = exchanged
        with pytest.raises(CheckpointRefused, match="in Triton"):
            served.engine.load(served.name(1), folders[0], None)

    def test_a_triton_that_dies_is_unavailable_and_one_that_restarts_loads_again(
        self, triton: Triton, served: Served, folders: list[Path]
    ) -> None:
        one = served.engine.load(served.name(1), folders[0], None)
        triton.kill()
        with pytest.raises(EngineUnavailable, match="does not score") as raised:
            one.raw_scores(INPUTS)
        assert raised.value.retry_after_s
        triton.start()
        eventually_sync(lambda: scores_again(one), 60)
        assert one.raw_scores(INPUTS) == pytest.approx(here(folders[0]), abs=1e-5)

    def test_a_close_leaves_nothing_behind(self, triton: Triton, folders: list[Path]) -> None:
        served = Served(triton.repository, triton.url)
        served.engine.load(served.name(1), folders[0], None)
        served.engine.close()
        assert served.repository.versions == ()
        eventually_sync(lambda: served.ready == [], 30)
