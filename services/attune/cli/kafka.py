"""The option --kafka of several commands: which cluster, as an address or as a file of its settings."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import click

from attune.cli.service import KNOWN_SERVICES
from attune.domain.errors import ConfigurationInvalid
from attune.platform.config import load_settings
from attune.platform.events.settings import EventLogSettings, KafkaSettings

if TYPE_CHECKING:
    from attune.platform.events.kafka.topics import Layout, Topics

F = TypeVar("F", bound=Callable[..., Any])


class TopicsSettings(EventLogSettings):
    """How the cluster is reached by commands: the same settings as those of the services."""

    service: ClassVar[str] = "topics"


def kafka_option(command: F) -> F:
    """The option --kafka: empty without it."""
    return click.option(
        "--kafka",
        default="",
        metavar="HOST:PORT|FILE.toml",
        help="Use Apache Kafka as the event log: a broker's address, or a TOML file whose [kafka] says how.",
    )(command)


def kafka_flags(kafka: str) -> list[str]:
    """What --kafka means as KEY=VALUE settings of a service; ConfigurationInvalid if its file is none."""
    if not kafka.endswith(".toml"):
        return [f"kafka.bootstrap={kafka}"] if kafka else []
    try:
        given = tomllib.loads(Path(kafka).read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationInvalid(f"{kafka} cannot be read: {error}") from None
    if given.keys() != {"kafka"}:
        raise ConfigurationInvalid(f"{kafka} must hold one section, [kafka]")
    if "password" in given["kafka"]:
        raise ConfigurationInvalid(f"{kafka}: name a password_file; a password would be shown among the arguments")
    return [f"kafka.{key}={value}" for key, value in given["kafka"].items()]


def open_topics(flags: Sequence[str], layout: Layout | None = None) -> Topics:
    """The topics on the cluster that the settings name; ConfigurationInvalid if they name none."""
    from attune.platform.events.kafka.topics import Layout, Topics

    return Topics(_cluster(flags), layout or Layout())


def make_topics(flags: Sequence[str], say: Callable[[str], None]) -> None:
    """Makes the topics that are absent, and says so, and whether those that are there differ."""
    with open_topics(flags) as topics:
        made, differences = topics.create(), topics.check()
    if made:
        say(f"Made on Kafka: {', '.join(made)}.")
    if differences:
        say("Some topics are not as they should be; `attune topics check` says what differs.")


def _cluster(flags: Sequence[str]) -> KafkaSettings:
    settings = load_settings(TopicsSettings, flags, None, dict(os.environ), KNOWN_SERVICES).kafka
    if not settings.bootstrap:
        raise ConfigurationInvalid("say which cluster: --kafka HOST:PORT; the embedded log makes its files by itself")
    return settings
