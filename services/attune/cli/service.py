"""The command of a service, the same for all: `--config FILE`, `--set KEY=VALUE`, `--settings` to list them.

The service is imported only when its command runs, so that `attune --help` stays light.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from attune.domain.errors import ConfigurationInvalid
from attune.platform.config import listing, load_settings
from attune.platform.lifecycle import EXIT_MISCONFIGURED, die_with_parent, run

SERVICES = ("policy", "reward", "ingest", "join", "trainer")
KNOWN_SERVICES = (*SERVICES, "topics", "cli", "supervisor")
"""Nobody is warned about their variables: ATTUNE_CLI_… are options of commands, the supervisor's is its process id."""


def service_command(name: str, package: str, settings_class: str, summary: str) -> click.Command:
    """A command `name` that runs `package`.main.main(settings, stop) with settings of `package`.config."""

    @click.command(name, help=f"{summary}\n\nSettings come from --set, ATTUNE_{name.upper()}_… variables, --config.")
    @click.option("--config", type=click.Path(path_type=Path), help="TOML file of settings.")
    @click.option("--set", "flags", multiple=True, metavar="KEY=VALUE", help="One setting; may be repeated.")
    @click.option("--settings", "is_listing", is_flag=True, help="List every setting with its default, and end.")
    def command(config: Path | None, flags: tuple[str, ...], is_listing: bool) -> None:
        die_with_parent()
        cls = getattr(import_module(f"{package}.config"), settings_class)
        if is_listing:
            for setting in listing(cls):
                click.echo(f"{setting.key} ({setting.type}, {setting.default or 'empty'}): {setting.description}")
            return
        try:
            settings = load_settings(cls, flags, config, dict(os.environ), KNOWN_SERVICES)
        except ConfigurationInvalid as error:
            click.echo(f"attune {name}: {error.message}", err=True)
            sys.exit(EXIT_MISCONFIGURED)
        module = import_module(f"{package}.main")
        main: Callable[[Any, asyncio.Event], Awaitable[None]] = module.main
        sys.exit(run(lambda stop: main(settings, stop), getattr(module, "new_loop", None)))

    return command
