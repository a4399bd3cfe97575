"""What `attune pretrain`, `sft` and `reward-model` share: options, progress, publishing, and how a result is told.

Stages are imported by the commands when they run, so that `--help` loads no torch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from attune.cli.addresses import registry_option
from attune.cli.output import print_json
from attune.cli.person import person
from attune.domain.errors import InvalidInput
from attune.domain.revisions import LATEST, STABLE, ModelName, RevisionName
from attune.platform.registry.registry import Registry, hash_folder

if TYPE_CHECKING:
    from attune.trainer.gates import GateVerdict
    from attune.trainer.stages.training import OnProgress, StageProgress, StageResult, StageSettings

F = TypeVar("F", bound=Callable[..., Any])
LINE_EVERY_S = 5.0

_TRAINING = (
    click.option("--steps", type=click.IntRange(1), help="Optimizer steps; wins over --epochs."),
    click.option("--epochs", type=click.FloatRange(0, min_open=True), help="Passes over the data."),
    click.option("--lr", type=click.FloatRange(0, min_open=True), help="Peak learning rate."),
    click.option("--batch-size", type=click.IntRange(1), help="Sequences a step."),
    click.option("--warmup-steps", type=click.IntRange(0), help="Steps until the learning rate is at its peak."),
    click.option("--weight-decay", type=click.FloatRange(0), help="Decay of matrices."),
    click.option("--validation-share", type=click.FloatRange(0, 1, max_open=True), help="Share of prompts held out."),
    click.option("--validate-every", type=click.IntRange(1), help="Steps between validations."),
    click.option("--checkpoint-every", type=click.IntRange(0), help="Steps between checkpoints; 0 keeps none."),
    click.option("--seed", type=click.IntRange(0), help="Of new weights and of the order of the data."),
    click.option("--precision", type=click.Choice(["auto", "float32", "bfloat16"]), help="Of the matrix products."),
    click.option("--device", help="cpu, cuda or cuda:1; default: cuda where there is one."),
)
SETTINGS = ("steps", "epochs", "lr", "batch_size", "warmup_steps", "weight_decay", "validation_share",
            "validate_every", "checkpoint_every", "seed", "precision", "device")  # fmt: skip


def stage_options(kind: str) -> Callable[[F], F]:
    """Data, --out, the options of training, --publish, --registry and --json; `kind` is "policies" or "rewards"."""

    def decorate(command: F) -> F:
        options = [
            click.argument("data", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False)),
            click.option(
                "--out",
                required=True,
                type=click.Path(path_type=Path, file_okay=False),
                help="Folder of the result. Run the same command again to go on after a kill.",
            ),
            *_TRAINING,
            click.option("--publish", metavar=f"{kind}/NAME", help="Publish the result as a revision of this model."),
            registry_option,
            click.option("--json", "as_json", is_flag=True, help="Print the result as one last line of JSON."),
        ]
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def stage_settings(options: Mapping[str, Any], **defaults: Any) -> StageSettings:
    """The settings given on the command line, over `defaults`, over those of StageSettings."""
    from attune.modeling.loading import device_named
    from attune.trainer.stages.training import StageSettings

    given = {name: options[name] for name in SETTINGS if options[name] is not None}
    return StageSettings(**(defaults | given | {"device": device_named(options["device"] or "auto")}))


def model_to_publish(name: str | None, kind: str) -> ModelName | None:
    """The model named by --publish, checked before hours of training; None if nothing is to be published."""
    if name is None:
        return None
    model = ModelName.parse(name)
    if model.kind != kind:
        raise InvalidInput(f"--publish {name}: this stage makes {kind}, so name it {kind}/{model.model}")
    return model


class Bar:
    """Progress of a stage: a bar on a terminal, a line every few seconds elsewhere. A context manager."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._console = Console(stderr=True, highlight=False)
        text = TextColumn("{task.description} {task.completed:.0f}/{task.total:.0f} {task.fields[figures]}")
        self._bar = Progress(text, BarColumn(), TimeRemainingColumn(), console=self._console)
        self._task: Any = None
        self._said = 0.0

    def __enter__(self) -> OnProgress:
        if self._console.is_terminal:
            self._bar.start()
        return self._tell

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def _tell(self, p: StageProgress) -> None:
        held_out = f", held out {p.validation_loss:.3f}" if p.validation_loss is not None else ""
        figures = f"loss {p.loss:.3f}{held_out}, {p.tokens_per_s:,.0f} tokens/s"
        if self._console.is_terminal:
            if self._task is None:
                self._task = self._bar.add_task(self._name, total=p.steps, figures="")
            self._bar.update(self._task, completed=p.step, figures=figures)
        elif p.step == p.steps or time.monotonic() - self._said >= LINE_EVERY_S:
            self._said = time.monotonic()
            self._console.print(f"{self._name} {p.step}/{p.steps}: {figures}", soft_wrap=True)


def publish(
    registry: Registry, model: ModelName, result: StageResult, verdict: GateVerdict | None = None
) -> tuple[RevisionName, bool]:
    """Publishes a result as the model's next revision; its name, and whether `stable` points at it.

    `stable` moves only if it points at nothing yet, and only if `verdict`, when there is one, passed: what serves
    people is changed by `attune promote`, never by a stage. The same files are not published twice: a command that is
    run again after a kill, or by mistake, names the revision that is there.
    """
    name, owner = _published(registry, model, result.folder), f"{person()} on {os.uname().nodename}"
    stable = registry.alias(model, STABLE)
    is_first = stable is None and (verdict is None or verdict.passed)
    if name is not None and not is_first:
        return name, stable is not None and stable.number == name.number
    epoch = registry.take_epoch([model], owner)
    if name is None:
        name = model.revision(registry.next_number(model))
        metrics = {"loss": result.loss} | result.metrics | (verdict.figures if verdict else {})
        if result.validation_loss is not None:
            metrics["validation_loss"] = result.validation_loss
        registry.publish(name, result.folder, epoch=epoch, metrics=metrics)
    if is_first:
        registry.move_alias(model, STABLE, name.number, epoch=epoch, actor=owner, reason="first revision")
    return name, is_first


def _published(registry: Registry, model: ModelName, folder: Path) -> RevisionName | None:
    """The model's latest revision if it holds the very files of a folder."""
    latest = registry.alias(model, LATEST)
    name = model.revision(latest.number) if latest else None
    return name if name and registry.manifest(name).files == hash_folder(folder) else None


def tell(result: StageResult, published: tuple[RevisionName, bool] | None, why_not: str, as_json: bool) -> None:
    """Prints a result, for people or as JSON; `why_not` says why `stable` was not moved, if there is a reason."""
    name, is_stable = published or (None, False)
    if as_json:
        plain = asdict(result) | {"folder": str(result.folder)}
        print_json(plain | {"revision": str(name) if name else None, "is_stable": is_stable})
        return
    held_out = "" if result.validation_loss is None else f", {result.validation_loss:.3f} held out"
    click.echo(f"{result.folder}: {result.steps} steps, loss {result.loss:.3f}{held_out}")
    click.echo(f"examples: {result.training_examples} trained on, {result.validation_examples} held out")
    if result.dropped_too_long:
        click.echo(f"dropped, because they are longer than the context: {result.dropped_too_long}")
    for key, value in result.metrics.items():
        click.echo(f"{key.replace('_', ' ')}: {value:.3f}")
    if name and is_stable:
        click.echo(f"published {name}; stable points at it")
    elif name:
        click.echo(f"published {name}; {why_not or f'to make it live: attune promote {name}'}")
