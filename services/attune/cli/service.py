"""The command of a service, the same for all: `--config FILE`, `--set KEY=VALUE`, `--settings` to list them.

The service is imported only when its command runs, so that `attune --help` stays light.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from attune.domain.errors import ConfigurationInvalid
from attune.platform.config import ServiceSettings, listing, load_settings
from attune.platform.lifecycle import EXIT_MISCONFIGURED, die_with_parent, run, stop_while_starting

F = TypeVar("F", bound=Callable[..., Any])

SERVICES = ("policy", "reward", "ingest", "join", "trainer")
KNOWN_SERVICES = (*SERVICES, "topics", "cli", "supervisor")
"""Nobody is warned about their variables: ATTUNE_CLI_… are options of commands, the supervisor's is its process id."""


_config_option = click.option("--config", type=click.Path(path_type=Path), help="TOML file of settings.")
_set_option = click.option("--set", "flags", multiple=True, metavar="KEY=VALUE", help="One setting; may be repeated.")


def settings_of(package: str, settings_class: str) -> Callable[[F], F]:
    """Gives a command the settings of a service, read as the service reads them, as its argument `settings`."""

    def decorated(command: F) -> F:
        @_config_option
        @_set_option
        @functools.wraps(command)
        def with_settings(config: Path | None, flags: tuple[str, ...], **others: Any) -> Any:
            cls = getattr(import_module(f"{package}.config"), settings_class)
            return command(settings=_load(cls, flags, config), **others)

        return cast(F, with_settings)

    return decorated


def service_command(name: str, package: str, settings_class: str, summary: str) -> click.Command:
    """A command `name` that runs `package`.main.main(settings, stop) with settings of `package`.config."""

    @click.command(name, help=f"{summary}\n\nSettings come from --set, ATTUNE_{name.upper()}_… variables, --config.")
    @_config_option
    @_set_option
    @click.option("--settings", "is_listing", is_flag=True, help="List every setting with its default, and end.")
    def command(config: Path | None, flags: tuple[str, ...], is_listing: bool) -> None:
        die_with_parent()
        cls = getattr(import_module(f"{package}.config"), settings_class)
        if is_listing:
            for setting in listing(cls):
                click.echo(f"{setting.key} ({setting.type}, {setting.default or 'empty'}): {setting.description}")
            return
        try:
            settings = _load(cls, flags, config)
        except ConfigurationInvalid as error:
            click.echo(f"attune {name}: {error.message}", err=True)
            sys.exit(EXIT_MISCONFIGURED)
        stop_while_starting()
        module = import_module(f"{package}.main")
        main: Callable[[Any, asyncio.Event], Awaitable[None]] = module.main
        sys.exit(run(lambda stop: main(settings, stop), getattr(module, "new_loop", None)))

    return command


def _load(cls: type[ServiceSettings], flags: tuple[str, ...], config: Path | None) -> ServiceSettings:
    return load_settings(cls, flags, config, dict(os.environ), KNOWN_SERVICES)
