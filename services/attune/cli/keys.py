"""`attune keys …`: makes, lists and revokes the keys with which apps and operators call."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from attune.cli.output import print_json
from attune.domain.access import Scope
from attune.domain.errors import InvalidInput
from attune.platform.access.keys import Key, new_key, read_keys, write_keys

F = TypeVar("F", bound=Callable[..., Any])
SCOPES = click.Choice([scope.value for scope in Scope])


@click.group("keys")
def keys() -> None:
    """Make, list and revoke the keys with which apps and operators call.

    A server whose keys_file names the file asks every caller for one of its keys, and sees changes at once. The file
    holds hashes only: a key is shown when it is made, and never again.
    """


def _file_option(command: F) -> F:
    return click.option(
        "--file",
        type=click.Path(path_type=Path, dir_okay=False),
        default=Path("attune-data/keys.json"),
        show_default=True,
        envvar="ATTUNE_CLI_KEYS_FILE",
        show_envvar=True,
        help="The file of keys.",
    )(command)


@keys.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Scope]),
    multiple=True,
    required=True,
    help="Repeatable.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the key there, not to the screen.")
@_file_option
def create(name: str, scopes: tuple[str, ...], out: Path | None, file: Path) -> None:
    """Make a key for NAME and print it, this once.

    NAME is the app whose requests and feedback the key brings; for the scope control, which stands alone, it is a name
    for the operator.
    """
    text, key = new_key(name, scopes)
    known = read_keys(file) if file.exists() else []
    if out:
        _write_for_owner(out, text)
    write_keys(file, [*known, key])
    if not out:
        click.echo(text)
    click.echo(f"key {key.id} of {name} for {', '.join(key.scopes)} stands in {file}", err=True)


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the list as one last line of JSON.")
@_file_option
def list_keys(as_json: bool, file: Path) -> None:
    """List keys: whose each is, what it may do, when it was made."""
    found = read_keys(file)
    if as_json:
        print_json([key.model_dump(mode="json", exclude={"sha256"}) for key in found])
        return
    table = Table("id", "name", "scopes", "made", box=SIMPLE_HEAD)
    for key in found:
        table.add_row(key.id, key.name, ", ".join(key.scopes), _day(key))
    Console().print(table)


@keys.command("revoke")
@click.argument("key_id")
@_file_option
def revoke(key_id: str, file: Path) -> None:
    """Take the key with the id KEY_ID out of the file; it opens nothing from then on."""
    found = read_keys(file)
    left = [key for key in found if key.id != key_id]
    if len(left) == len(found):
        raise InvalidInput(f"{file} holds no key {key_id}")
    write_keys(file, left)
    click.echo(f"key {key_id} was revoked", err=True)


def _day(key: Key) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(key.create_time))


def _write_for_owner(file: Path, text: str) -> None:
    """A new file that nobody else may read; InvalidInput if there is one already."""
    try:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(f"{text}\n")
    except OSError as error:
        raise InvalidInput(f"{file} cannot be made: {error.strerror}") from None
