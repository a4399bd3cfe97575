"""`attune topics`: makes the topics of the event log on a Kafka cluster, and says what is not as it must be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console
from rich.table import Column, Table

from attune.cli.kafka import kafka_flags, kafka_option, open_topics
from attune.cli.output import print_json

if TYPE_CHECKING:
    from attune.platform.events.kafka.topics import Difference, Layout

F = TypeVar("F", bound=Callable[..., Any])


def _cluster_options(command: F) -> F:
    options = [
        kafka_option,
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

    Settings are those of the services: --set kafka.tls=true, ATTUNE_TOPICS_KAFKA__PASSWORD, or a file for --kafka.
    """


@topics.command("create")
@_cluster_options
def create(kafka: str, flags: tuple[str, ...], as_json: bool, **layout: Any) -> None:
    """Make the topics that are absent; the exit status is 1 if one that is there differs."""
    with open_topics([*kafka_flags(kafka), *flags], _layout(**layout)) as cluster:
        made, differences = cluster.create(), cluster.check()
    if not as_json:
        for name in made:
            click.echo(f"made {name}")
    _tell(made, differences, as_json)


@topics.command("check")
@_cluster_options
def check(kafka: str, flags: tuple[str, ...], as_json: bool, **layout: Any) -> None:
    """Say what differs from what `create` would make; the exit status is 1 if anything does."""
    with open_topics([*kafka_flags(kafka), *flags], _layout(**layout)) as cluster:
        _tell([], cluster.check(), as_json)


def _layout(partitions: int, replication_factor: int, fsync: bool) -> Layout:
    from attune.platform.events.kafka.topics import Layout

    return Layout(partitions, replication_factor, fsync)


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
