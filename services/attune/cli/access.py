"""How commands reach the services: options of `attune` itself, before the command, or the environment."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from attune.client.access import Access

F = TypeVar("F", bound=Callable[..., Any])
BEARER = "ATTUNE_CLI_BEARER"

_OPTIONS = (
    click.option("--tls", is_flag=True, envvar="ATTUNE_CLI_TLS", help="Reach the services over TLS."),
    click.option("--ca-file", default="", metavar="PEM", envvar="ATTUNE_CLI_CA_FILE", help="Authorities to trust."),
    click.option("--cert-file", default="", metavar="PEM", envvar="ATTUNE_CLI_CERT_FILE", help="Certificate to show."),
    click.option("--key-file", default="", metavar="PEM", envvar="ATTUNE_CLI_KEY_FILE", help="Its key."),
    click.option(
        "--bearer-file",
        default="",
        metavar="FILE",
        envvar="ATTUNE_CLI_BEARER_FILE",
        help=f"Key from `attune keys create`; or set {BEARER}.",
    ),
)


def access_options(command: F) -> F:
    """Gives the program these options; they reach it by their names in Access."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def access() -> Access:
    """What the options of the running command say. ConfigurationInvalid if they do not go together."""
    from attune.client.access import Access

    given: dict[str, Any] = click.get_current_context().find_root().obj or {}
    bearer = "" if given.get("bearer_file") else os.environ.get(BEARER, "")
    return Access(bearer=bearer, **given)
