"""`attune topics`: makes the topics of the event log on a Kafka cluster, and says what is not as it must be."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import click
from rich.console import Console
from rich.table import Column, Table

from attune.cli.output import print_json
from attune.cli.service import KNOWN_SERVICES
from attune.domain.errors import ConfigurationInvalid
from attune.platform.config import load_settings
from attune.platform.events.settings import EventLogSettings

if TYPE_CHECKING:
    from attune.platform.events.kafka.topics import Difference, Layout

F = TypeVar("F", bound=Callable[..., Any])


class TopicsSettings(EventLogSettings):
    """How the cluster is reached: the same settings as those of the services."""

    service: ClassVar[str] = "topics"


def _cluster_options(command: F) -> F:
    options = [
        click.option("--kafka", metavar="HOST:PORT", default="", help="Short for --set kafka.bootstrap=HOST:PORT."),
        click.option("--config", type=click.Path(path_type=Path), help="TOML file of settings."),
        click.option("--set", "flags", multiple=True, metavar="KEY=VALUE", help="One setting; may be repeated."),
        click.option("--partitions", type=click.IntRange(1), default=3, show_default=True, help="Of each topic."),
        click.option(
            "--replication-factor",
            type=click.IntRange(0),
            default=0,
            help="Copies of each partition. Default: 3, or as many as there are brokers.",
        ),
        click.option("--fsync", is_flag=True, help="Force every write to disk: for a broker that is alone."),
        click.option("--json", "as_json", is_flag=True, help="Print the result as one last line of JSON."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group("topics")
def topics() -> None:
    """Make and check the topics on Kafka.

    Settings are those of the services: --set kafka.tls=true, ATTUNE_TOPICS_KAFKA__PASSWORD, or a TOML file.
    """


@topics.command("create")
@_cluster_options
def create(as_json: bool, **given: Any) -> None:
    """Make the topics that are absent; the exit status is 1 if one that is there differs."""
    from attune.platform.events.kafka.topics import Topics

    settings, layout = _understood(**given)
    with Topics(settings.kafka, layout) as cluster:
        made, differences = cluster.create(), cluster.check()
    if not as_json:
        for name in made:
            click.echo(f"made {name}")
    _tell(made, differences, as_json)


@topics.command("check")
@_cluster_options
def check(as_json: bool, **given: Any) -> None:
    """Say what differs from what `create` would make; the exit status is 1 if anything does."""
    from attune.platform.events.kafka.topics import Topics

    settings, layout = _understood(**given)
    with Topics(settings.kafka, layout) as cluster:
        _tell([], cluster.check(), as_json)


def _understood(
    kafka: str, config: Path | None, flags: tuple[str, ...], partitions: int, replication_factor: int, fsync: bool
) -> tuple[TopicsSettings, Layout]:
    from attune.platform.events.kafka.topics import Layout

    flags += (f"kafka.bootstrap={kafka}",) if kafka else ()
    settings = load_settings(TopicsSettings, flags, config, dict(os.environ), KNOWN_SERVICES)
    if not settings.kafka.bootstrap:
        raise ConfigurationInvalid("say which cluster: --kafka HOST:PORT; the embedded log makes its files by itself")
    return settings, Layout(partitions, replication_factor, fsync)


def _tell(made: list[str], differences: list[Difference], as_json: bool) -> None:
    if as_json:
        print_json({"made": made, "differences": [asdict(difference) for difference in differences]})
    elif differences:
        table = Table(Column("topic", no_wrap=True), "setting", "should be", "is")
        for one in differences:
            table.add_row(one.topic, one.setting, one.wanted, one.found or "[red]absent[/red]")
        Console().print(table)
    else:
        click.echo("all topics are as they should be")
    if differences:
        raise click.exceptions.Exit(1)
