"""The whole story on a recipe of seconds, with real processes: every figure is there, and the files can be read."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from attune.api.trainer.v1 import trainer_pb2
from attune.cli.demo import ON_CPU
from attune.cli.engine import TRANSFORMERS, VLLM, engine_choice
from attune.cli.supervisor import Endpoints, Supervisor, settings_of
from attune.domain.errors import ServerUnavailable
from attune.modeling.loading import PolicyShape
from attune.platform.registry.registry import Registry
from attune.simulation.recipe import Recipe
from attune.simulation.report import write_report
from attune.simulation.story import Stage, Story, _rounded, _settle, _until
from attune.simulation.users import Customs

TINY = replace(
    Recipe(), shape=PolicyShape("llama", 1, 64, 2, mlp_width=48, context=192), vocabulary=400, conversations=600,
    demonstrations=200, pretraining_steps=10, sft_steps=5, first_visits=120, population=40, visitors=2, pause_s=0.2,
    customs=Customs(late_s=(0.1, 1.0)),
)  # fmt: skip


@dataclass
class Services:
    """A supervisor as the story sees it."""

    supervisor: Supervisor

    @property
    def restarts(self) -> dict[str, int]:
        return self.supervisor.restarts

    def start(self, services) -> None:
        self.supervisor.start(services)

    async def wait_until_serving(self, services, timeout_s: float) -> None:
        await self.supervisor.wait_until_serving(services, timeout_s)

    def address(self, service: str, use: str) -> str:
        return self.supervisor.endpoints.address(service, use)


@pytest.mark.parametrize(
    "engine",
    [pytest.param(TRANSFORMERS, marks=pytest.mark.slow), pytest.param(VLLM, marks=pytest.mark.vllm)],
)
@pytest.mark.timeout(400)
async def test_from_nothing_to_a_report(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    system = tmp_path / "system"
    system.mkdir()
    endpoints = Endpoints.free()
    environment = request.getfixturevalue("vllm_python").parents[1] if engine == VLLM else None
    chosen = engine_choice(engine, environment)
    settings = chosen.with_settings(settings_of(system, endpoints, cores=1))
    settings["trainer"] += TINY.trainer()
    settings["policy"] += ON_CPU if engine == VLLM else []
    said: list[str] = []
    supervisor = Supervisor(system, endpoints, settings, said.append, interpreters=chosen.interpreters)
    stage = Stage(
        tmp_path, Registry(system / "registry"), Services(supervisor), said.append, lambda name: lambda p: None
    )

    def brief(prompt: str, completion: str) -> float:
        return -float(len(completion))

    try:
        report = await Story(stage, TINY, brief, minutes=0.4).run()
    finally:
        await supervisor.stop()
    summary = report.summary
    for figure in ("win_rate", "reward_accuracy", "distinct"):
        assert 0.0 <= summary[figure] <= 1.0
    assert math.isfinite(summary["kl"])
    assert summary["feedback_events"] > 100
    assert summary["failed_requests"] == 0
    assert summary["restarts"] == 0
    assert [row.prompt for row in report.rows]
    assert report.served
    files = write_report(report, tmp_path / "report")
    assert all(file.stat().st_size for file in files)
    assert json.loads((tmp_path / "report" / "summary.json").read_text()).keys() >= {"win_rate", "kl", "wall_s"}


async def test_waiting_has_an_end() -> None:
    async def never() -> bool:
        return False

    with pytest.raises(ServerUnavailable, match="never does not hold"):
        await _until(never, 0.01)


@dataclass
class Phases:
    """A trainer as settling sees it: its phases, one a question."""

    left: list[int]
    paused_for: str = ""

    async def pause(self, reason: str) -> None:
        self.paused_for = reason

    async def status(self) -> trainer_pb2.GetStatusResponse:
        return trainer_pb2.GetStatusResponse(phase=trainer_pb2.Phase.ValueType(self.left.pop(0)))


@pytest.mark.parametrize("last", [trainer_pb2.PHASE_PAUSED, trainer_pb2.PHASE_STOPPED])
async def test_it_settles_when_the_trainer_rests_or_has_stopped_itself(last: int) -> None:
    trainer = Phases([trainer_pb2.PHASE_GATE, last])
    await _settle(trainer)
    assert trainer.paused_for
    assert not trainer.left


def test_figures_are_rounded_at_any_depth() -> None:
    assert _rounded({"a": 1 / 3, "b": {"c": 2 / 3}, "n": 3, "none": math.nan}) == {
        "a": 0.3333,
        "b": {"c": 0.6667},
        "n": 3,
        "none": None,
    }
