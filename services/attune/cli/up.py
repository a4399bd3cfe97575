"""`attune up`: all services of one machine, under one folder, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from attune.cli.engine import engine_choice, engine_options
from attune.cli.kafka import kafka_flags, kafka_option, make_topics
from attune.cli.supervisor import COMMANDS, Endpoints, Supervisor, settings_of
from attune.domain.errors import ConfigurationInvalid
from attune.platform.lifecycle import run, until_stopped


@click.command("up")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("attune-data"),
    show_default=True,
    help="Where everything is kept: registry, events, database, checkpoints, logs.",
)
@click.option(
    "--set", "flags", multiple=True, metavar="SERVICE.KEY=VALUE", help="A setting of one service; repeatable."
)
@kafka_option
@engine_options
@click.option(
    "--free-ports", is_flag=True, help="Take ports that nobody uses; endpoints.json in the folder names them."
)
def up(folder: Path, flags: tuple[str, ...], kafka: str, engine: str, vllm: Path | None, free_ports: bool) -> None:
    """Run all services on this machine.

    Without a model they wait and say what is missing: publish one with `attune sft --publish policies/support` and
    `attune reward-model --publish rewards/support`. `attune policy --settings` and so on list what can be set, e.g.
    --set trainer.ppo.kl_target=3. An ATTUNE_TRAINER_… variable reaches the trainer, and likewise the others.
    With --kafka, topics that are absent are made.
    """
    chosen = engine_choice(engine, vllm)
    endpoints = Endpoints.free() if free_ports else Endpoints.usual()
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    cluster = kafka_flags(kafka)
    own = chosen.with_settings(settings_of(folder, endpoints, os.cpu_count() or 1, cluster))
    settings = with_flags(own, flags)
    if cluster:
        make_topics(cluster, click.echo)
    endpoints.save(folder)
    supervisor = Supervisor(folder, endpoints, settings, click.echo, interpreters=chosen.interpreters)
    raise SystemExit(run(lambda stop: _supervise(supervisor, folder, stop)))


async def _supervise(supervisor: Supervisor, folder: Path, stop: asyncio.Event) -> None:
    supervisor.start(list(COMMANDS))
    try:
        Console().print(_table(supervisor.endpoints, folder))
        click.echo("`attune status` shows how they are; Ctrl-C ends all.")
        await until_stopped(stop, [supervisor.failed()])
    finally:
        await supervisor.stop()


def with_flags(settings: dict[str, list[str]], flags: tuple[str, ...]) -> dict[str, list[str]]:
    """The settings and SERVICE.KEY=VALUE flags behind them; ConfigurationInvalid for a service that is none."""
    found = {service: list(own) for service, own in settings.items()}
    for flag in flags:
        service, dot, setting = flag.partition(".")
        if service not in found or not dot or "=" not in setting:
            raise ConfigurationInvalid(f'"{flag}" is no SERVICE.KEY=VALUE; services are {", ".join(found)}')
        found[service].append(setting)
    return found


def _table(endpoints: Endpoints, folder: Path) -> Table:
    table = Table("service", "app", "HTTP", "control", "metrics", title=f"Attune in {folder}")
    for service, uses in endpoints.ports.items():
        ports = [endpoints.address(service, use) if use in uses else "" for use in ("app", "http", "control")]
        table.add_row(service, *ports, f"http://{endpoints.address(service, 'metrics')}/metrics")
    return table
