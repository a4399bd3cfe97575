"""Where commands find the services: the ports of one machine, unless an option or the environment says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

ADDRESSES = {
    "policy": "127.0.0.1:7001",
    "policy_control": "127.0.0.1:7101",
    "reward": "127.0.0.1:7002",
    "reward_control": "127.0.0.1:7102",
    "feedback": "127.0.0.1:7003",
    "join": "127.0.0.1:7104",
    "trainer": "127.0.0.1:7105",
}


REGISTRY = "attune-data/registry"


def address_option(server: str) -> Callable[[F], F]:
    """The option --<server>-address, which reaches the command as `<server>_address`."""
    flag = f"--{server.replace('_', '-')}-address"
    return click.option(
        flag,
        default=ADDRESSES[server],
        show_default=True,
        metavar="HOST:PORT",
        envvar=f"ATTUNE_CLI_{server.upper()}_ADDRESS",
        show_envvar=True,
    )


def registry_option(command: F) -> F:
    """The option --registry: a folder or a URL."""
    return click.option(
        "--registry",
        default=REGISTRY,
        show_default=True,
        metavar="URL",
        envvar="ATTUNE_CLI_REGISTRY",
        show_envvar=True,
        help="A folder, or a URL such as s3://bucket/prefix.",
    )(command)
