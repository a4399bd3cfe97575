"""`attune demo`: the whole story on one machine, from no model at all to a policy that people like better.

The story is attune.simulation.story's; this file gives it the services of `attune up`, a folder and a terminal.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from attune.cli.engine import TRANSFORMERS, VLLM, EngineChoice, engine_choice, engine_options
from attune.cli.kafka import kafka_flags, kafka_option, make_topics
from attune.cli.output import print_json
from attune.cli.supervisor import QUIET_THREADS, Endpoints, Supervisor, settings_of
from attune.domain.errors import AttuneError, InvalidInput

if TYPE_CHECKING:
    from attune.simulation.report import Report, Row
    from attune.trainer.stages.training import StageProgress

LINE_EVERY_S = 10.0
AT_LEAST = {"win_rate": 0.85, "win_rate_worst_kind": 0.80, "reward_accuracy": 0.85, "distinct": 0.40,
            "policy_revisions": 5}  # fmt: skip
AT_MOST = {"kl": 5.0, "freshness_p50_s": 20.0, "failed_requests": 0}
WALL_S = {TRANSFORMERS: 600.0, VLLM: 900.0}
"""Longest run, by the engine."""
ON_CPU = ["vllm.arguments.enforce_eager=true", f"vllm.arguments.kv_cache_memory_bytes={256 * 2**20}"]
"""Settings of vLLM for a model of a few million parameters: nothing is compiled, and its cache holds all that runs."""


@click.command("demo")
@click.option(
    "--judge",
    default="",
    metavar="FILE.py:FUNCTION",
    help="What the users like: FUNCTION(prompt, completion) -> float, higher is better. Default: helpful, safe, kind.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of texts, models and users.")
@click.option("--minutes", type=click.FloatRange(0.2), default=4.0, show_default=True, help="Of live traffic.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where everything is kept, the report too; must be empty. Default: attune-demo/<time>.",
)
@click.option(
    "--reuse",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Take texts, base model and SFT policy from the folder of an earlier run.",
)
@click.option("--shuffled", is_flag=True, help="Control: users act at random, so there is nothing to learn.")
@click.option("--mistakes", type=click.FloatRange(0, 1), help="Share of feedback that is a plain mistake. Default: 0.1")
@kafka_option
@engine_options
@click.option("--json", "as_json", is_flag=True, help="Print nothing but the last line of JSON on standard output.")
@click.option("--check", is_flag=True, help="Exit with status 1 if a figure misses the demo's bar.")
def demo(
    *,
    judge: str,
    seed: int,
    minutes: float,
    out: Path | None,
    reuse: Path | None,
    shuffled: bool,
    mistakes: float | None,
    kafka: str,
    engine: str,
    vllm: Path | None,
    as_json: bool,
    check: bool,
) -> None:
    """Watch a language model get better from people's rankings, end to end.

    Makes a small language model from nothing, puts it into production in front of simulated users, and improves it
    while they use it. Takes about ten minutes on two cores. The last line is JSON.
    """
    folder = (out or Path("attune-demo") / time.strftime("%Y%m%d-%H%M%S")).absolute()
    if folder.exists() and any(folder.iterdir()):
        raise InvalidInput(f"{folder} is not empty; choose another folder with --out")
    if reuse and not (reuse / "models" / "sft" / "config.json").is_file():
        raise InvalidInput(f"{reuse} holds no models/sft of an earlier run")
    chosen = engine_choice(engine, vllm)
    os.environ.update(QUIET_THREADS)  # read by torch's threads when they start
    console = Console(stderr=as_json, highlight=False)
    cluster = kafka_flags(kafka)
    report = asyncio.run(_run(folder, judge, seed, minutes, reuse, shuffled, mistakes, cluster, chosen, console))
    _show(report, folder, console)
    print_json(dict(report.summary))
    if check and (missed := missed_bars(report.summary, engine)):
        raise AttuneError(f"missed: {', '.join(missed)}")


def missed_bars(summary: Mapping[str, Any], engine: str = TRANSFORMERS) -> list[str]:
    """The figures that miss their bar, each beside it; one that could not be measured misses."""
    at_most = AT_MOST | {"wall_s": WALL_S[engine]}
    bars = AT_LEAST | at_most
    unmeasured = [f"{k} was not measured" for k in bars if summary[k] is None]
    low = [f"{k} {v:.3g} < {bar}" for k, bar in AT_LEAST.items() if (v := summary[k]) is not None and not v >= bar]
    high = [f"{k} {v:.3g} > {bar}" for k, bar in at_most.items() if (v := summary[k]) is not None and not v <= bar]
    return unmeasured + low + high


def with_own_topics(kafka: list[str]) -> list[str]:
    """The settings of a cluster with a prefix that no other run has, so that runs do not read each other's events."""
    given = [flag.partition("=")[2] for flag in kafka if flag.startswith("kafka.topic_prefix=")]
    return [*kafka, f"kafka.topic_prefix={''.join(given)}demo-{secrets.token_hex(4)}."] if kafka else []


class _Services(Supervisor):
    """The supervisor as a story sees it."""

    def address(self, service: str, use: str) -> str:
        return self.endpoints.address(service, use)


async def _run(
    folder: Path,
    judge: str,
    seed: int,
    minutes: float,
    reuse: Path | None,
    shuffled: bool,
    mistakes: float | None,
    kafka: list[str],
    engine: EngineChoice,
    console: Console,
) -> Report:
    from attune.platform.registry.registry import Registry
    from attune.simulation import judge as house
    from attune.simulation.recipe import Recipe
    from attune.simulation.story import Stage, Story
    from attune.simulation.taste import load_judge
    from attune.simulation.users import Customs

    customs = Customs(is_shuffled=shuffled)
    if mistakes is not None:
        customs = replace(customs, mistake_rate=mistakes)
    recipe = Recipe(seed=seed, customs=customs)
    taste = load_judge(judge) if judge else house.score
    say = _speaker(console)
    say(f"[bold]Attune demo[/bold], seed {seed}. Everything is kept in {folder}.")
    system = folder / "system"
    system.mkdir(parents=True)
    endpoints = Endpoints.free()
    endpoints.save(system)
    cluster = with_own_topics(kafka)
    if cluster:
        make_topics(cluster, say)
    settings = engine.with_settings(settings_of(system, endpoints, os.cpu_count() or 1, cluster))
    settings["trainer"] += recipe.trainer()
    settings["policy"] += ON_CPU if engine.name == VLLM else []
    services = _Services(system, endpoints, settings, say, interpreters=engine.interpreters)
    stage = Stage(folder, Registry(system / "registry"), services, say, lambda name: _progress(name, say))
    try:
        return await Story(stage, recipe, taste, minutes).run(reuse / "models" if reuse else None)
    finally:
        await services.stop()


def _speaker(console: Console) -> Callable[[str], None]:
    started = time.monotonic()
    return lambda text: console.print(f"[dim]{time.monotonic() - started:4.0f} s[/dim]  {text}", soft_wrap=True)


def _progress(name: str, say: Callable[[str], None]) -> Callable[[StageProgress], None]:
    """A line every LINE_EVERY_S and one at the end."""
    state = {"said": time.monotonic(), "began": time.monotonic(), "first": 0.0}

    def tell(p: StageProgress) -> None:
        now = time.monotonic()
        state["first"] = state["first"] or p.step
        if p.step < p.steps and now - state["said"] < LINE_EVERY_S:
            return
        state["said"] = now
        done = max(p.step - state["first"], 1)
        left_s = (now - state["began"]) / done * (p.steps - p.step)
        held_out = f", held out {p.validation_loss:.2f}" if p.validation_loss is not None else ""
        left = f", {left_s:.0f} s left" if p.step < p.steps else ""
        say(f"{name} {p.step}/{p.steps}: loss {p.loss:.2f}{held_out}, {p.tokens_per_s:,.0f} tokens/s{left}")

    return tell


def _show(report: Report, folder: Path, console: Console) -> None:
    from attune.simulation.report import write_report

    table = Table(title="The same prompts, before and after (true score in brackets)", show_lines=True)
    for column in ("prompt", "before", "after"):
        table.add_column(column, ratio=1)
    for row in report.rows:
        table.add_row(row.prompt, *_answers(row))
    console.print(table)
    files = write_report(report, folder)
    console.print("Written: " + ", ".join(str(file) for file in files), soft_wrap=True)


def _answers(row: Row) -> tuple[str, str]:
    return f"{row.before} ({row.score_before:+.1f})", f"{row.after} ({row.score_after:+.1f})"
