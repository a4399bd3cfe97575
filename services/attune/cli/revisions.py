"""`attune revisions`: what the registry holds, read from the registry itself, so that no server need run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from attune.cli.addresses import registry_option
from attune.cli.output import print_json
from attune.domain.revisions import Manifest, ModelName, RevisionName
from attune.platform.registry.prune import prune
from attune.platform.registry.registry import Registry

SHOWN = ("kl", "score_mean", "reward_accuracy", "calibration_error", "anchor_drift", "validation_loss")


@click.group("revisions")
def revisions() -> None:
    """List, show and prune revisions of policies and reward models."""


@revisions.command("list")
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Print the list as one last line of JSON.")
@registry_option
def list_revisions(model: str, as_json: bool, registry: str) -> None:
    """List the revisions of MODEL (policies/NAME or rewards/NAME), newest first."""
    store, name = Registry(registry), ModelName.parse(model)
    rows = [_described(store, name.revision(number)) for number in reversed(store.revisions(name))]
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo(f"{registry} holds no revision of {name}")
        return
    columns = (
        "revision",
        "aliases",
        Column("made", no_wrap=True),
        "parent",
        "data to",
        Column("figures", no_wrap=True),
    )
    table = Table(*columns, title=model, box=SIMPLE_HEAD)
    for row in rows:
        aliases = " ".join(row["aliases"]) + (" (pruned)" if row["pruned"] else "")
        number = row["name"].rpartition("/")[2]
        parent, data_end = str(row["parent"] or ""), str(row["example_sequence"] or "")
        table.add_row(number, aliases, _moment(row["create_time"]), parent, data_end, _figures(row["metrics"]))
    Console().print(table)


def _figures(metrics: Mapping[str, float]) -> str:
    """Those that a table has room for; `revisions show` has all."""
    shown = [name for name in SHOWN if name in metrics] or list(metrics)[:3]
    return "\n".join(f"{name.replace('_', ' ')} {metrics[name]:.3g}" for name in shown)


def _moment(seconds: float) -> str:
    return time.strftime("%m-%d %H:%M", time.localtime(seconds))


@revisions.command("show")
@click.argument("revision")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as one last line of JSON.")
@registry_option
def show(revision: str, as_json: bool, registry: str) -> None:
    """Show the manifest of REVISION, such as policies/support/revisions/7 or policies/support/stable."""
    store = Registry(registry)
    facts = _described(store, _resolved(store, revision)) | {"files": _files(store, _resolved(store, revision))}
    if as_json:
        print_json(facts)
        return
    for key, value in (facts | {"create_time": time.ctime(facts["create_time"])}).items():
        click.echo(f"{key}: {value if not isinstance(value, dict) else ''}".rstrip())
        for part, detail in value.items() if isinstance(value, dict) else ():
            click.echo(f"  {part}: {detail}")


@revisions.command("prune")
@click.argument("model")
@click.option("--keep-last", type=click.IntRange(min=1), default=10, show_default=True, help="How many to keep.")
@click.option("--also-keep", type=int, multiple=True, help="The number of one more to keep; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Delete nothing, only tell.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as one last line of JSON.")
@registry_option
def prune_revisions(
    model: str, keep_last: int, also_keep: tuple[int, ...], dry_run: bool, as_json: bool, registry: str
) -> None:
    """Delete the weights of old revisions of MODEL; manifests and what aliases point at stay.

    The trainer does this by itself; by hand, `attune pause` it first, and keep the reference that it names.
    """
    store, name = Registry(registry), ModelName.parse(model)
    pruned = prune(store, name, keep_last=keep_last, also_keep=also_keep, dry_run=dry_run)
    if as_json:
        print_json({"model": str(name), "pruned": pruned, "dry_run": dry_run})
    else:
        verb = "would prune" if dry_run else "pruned"
        click.echo(f"{verb} {', '.join(map(str, pruned)) or 'nothing'} of {name}")


def _resolved(store: Registry, revision: str) -> RevisionName:
    """A full name, or a model's name with an alias or number."""
    parts = revision.split("/")
    if len(parts) == 3:
        return store.resolve(ModelName(parts[0], parts[1]), parts[2])  # type: ignore[arg-type]
    return RevisionName.parse(revision)


def _described(store: Registry, name: RevisionName) -> dict[str, Any]:
    manifest: Manifest = store.manifest(name)
    aliases = [alias for alias, head in store.aliases(name.model_name).items() if head.number == name.number]
    fields = asdict(manifest)
    fields.pop("files")
    head = {"name": str(name), "aliases": aliases, "pruned": store.is_pruned(name)}
    return head | {key: value for key, value in fields.items() if key not in head}


def _files(store: Registry, name: RevisionName) -> dict[str, int]:
    """Bytes of each file."""
    return {path: entry.size for path, entry in sorted(store.manifest(name).files.items())}
