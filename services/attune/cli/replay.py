"""`attune replay`: rebuilds the examples from the event log and compares them with those of the live join."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from rich.console import Console
from rich.progress import Progress

from attune.cli.output import print_json
from attune.cli.service import settings_of
from attune.feedback.join.config import JoinSettings
from attune.feedback.join.database import open_database, open_existing
from attune.feedback.join.replay import Comparison, Replay
from attune.platform.events.settings import open_event_log


@click.command("replay")
@click.option("--into", default="", metavar="URL", help="A fresh database to keep it in; else it is thrown away.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as one last line of JSON.")
@settings_of("attune.feedback.join", "JoinSettings")
def replay(settings: JoinSettings, into: str, as_json: bool) -> None:
    """Rebuild the examples from the event log in a fresh database, and compare them row by row with the live ones.

    Reads the settings of the join (--config, --set, ATTUNE_JOIN_… variables), which may go on meanwhile, and changes
    nothing of it. People who were erased stay out. Ends with status 1 if anything differs.
    """
    live = open_existing(settings.database, settings.password())
    with _fresh_url(into) as url, Progress(console=Console(stderr=True)) as progress:
        fresh = open_database(url, settings.password())
        task = progress.add_task("reading the log", total=None)
        try:
            comparison = Replay(
                open_event_log(settings),
                live,
                fresh,
                settings.limits(),
                settings.feedback_retention_s,
                lambda read, total: progress.update(task, completed=read, total=total),
            ).run()
        finally:
            fresh.dispose()
            live.dispose()
    _print(comparison, as_json)
    sys.exit(1 if comparison.differences else 0)


@contextmanager
def _fresh_url(into: str) -> Iterator[str]:
    if into:
        yield into
        return
    with TemporaryDirectory(prefix="attune-replay-") as folder:
        yield f"sqlite:///{Path(folder) / 'replay.db'}"


def _print(found: Comparison, as_json: bool) -> None:
    for difference in found.shown:
        click.echo(f"{difference.event_id.hex()} of {difference.app_id}: {difference.what} {difference.kind}")
    if len(found.shown) < found.differences:
        click.echo(f"… and {found.differences - len(found.shown)} more")
    click.echo(f"examples: {found.live} live, {found.replayed} replayed, {found.differences} differences")
    if found.out_of_log:
        click.echo(f"not compared, for the log no longer holds all that bears on them: {found.out_of_log}")
    if as_json:
        print_json(
            {
                "live": found.live,
                "replayed": found.replayed,
                "differences": found.differences,
                "out_of_log": found.out_of_log,
            }
        )
