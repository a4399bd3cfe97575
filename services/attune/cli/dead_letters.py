"""`attune dead-letters …`: what the join could not use, and why; and writes it back when the cause is gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from attune.cli.output import print_json
from attune.cli.service import settings_of
from attune.feedback.join.config import JoinSettings
from attune.feedback.join.database import open_existing
from attune.feedback.join.dead_letters import DeadLetter, read_letters, write_back
from attune.feedback.join.erased import Erased
from attune.platform.events.settings import open_event_log

F = TypeVar("F", bound=Callable[..., Any])


@click.group("dead-letters")
def dead_letters() -> None:
    """See what the join could not use, and write it back."""


def _choosing(command: F) -> F:
    """The options of both commands: which letters, and the settings of the join, which name log and database."""
    for option in (
        click.option("--reason", "reasons", multiple=True, help="Only letters of this reason; repeatable."),
        click.option("--topic", "topics", multiple=True, help="Only letters from this topic; repeatable."),
        click.option("--place", "places", multiple=True, help="Only the letter of this place; repeatable."),
        click.option("--json", "as_json", is_flag=True, help="Print everything as one last line of JSON."),
        settings_of("attune.feedback.join", "JoinSettings"),
    ):
        command = option(command)
    return command


@dead_letters.command("list")
@click.option("--limit", default=100, show_default=True, help="Show at most so many, the last ones.")
@_choosing
def list_letters(settings: JoinSettings, limit: int, as_json: bool, **chosen: tuple[str, ...]) -> None:
    """List letters: where each stood, when and why it was set aside. What people said is not shown."""
    found = _chosen(settings, **chosen)
    reasons = Counter(letter.reason for letter in found)
    if as_json:
        letters = [
            {"place": x.place, "time": x.time, "reason": x.reason, "detail": x.detail, "bytes": len(x.value)}
            for x in found[-limit:]
        ]
        print_json({"letters": letters, "reasons": dict(reasons)})
        return
    table = Table("place", "time", "reason", "detail")
    for letter in found[-limit:]:
        time = datetime.fromtimestamp(letter.time, UTC).isoformat(" ", "seconds")
        table.add_row(letter.place, time, letter.reason, letter.detail)
    Console().print(table)
    for reason, number in reasons.most_common():
        click.echo(f"{reason}: {number}")


@dead_letters.command("replay")
@click.option("--yes", "is_sure", is_flag=True, help="Do not ask.")
@_choosing
def replay_letters(settings: JoinSettings, is_sure: bool, as_json: bool, **chosen: tuple[str, ...]) -> None:
    """Write letters back to the topics they came from, where the join judges them anew.

    An event that the join knows by then counts once. Left out are people who were erased since, and records that could
    not be read at all. On the embedded event log, first stop ingest (for attune.feedback) or the policy server (for
    attune.generations): a topic has one writing process there.
    """
    found = _chosen(settings, **chosen)
    if not is_sure:
        click.confirm(f"Write {len(found)} letters back?", abort=True)
    engine = open_existing(settings.database, settings.password())
    erased = Erased.of(engine)
    try:
        with engine.connect() as connection:
            report = write_back(open_event_log(settings), found, lambda people: erased.among(connection, people))
    finally:
        engine.dispose()
    if as_json:
        print_json({"written": report.written, "erased": report.erased, "whole_records": report.whole_records})
        return
    click.echo(f"written back: {report.written}")
    if report.erased:
        click.echo(f"left out, their people were erased: {report.erased}")
    if report.whole_records:
        click.echo(f"left out, whole records that cannot be read: {report.whole_records}")


def _chosen(
    settings: JoinSettings, reasons: tuple[str, ...], topics: tuple[str, ...], places: tuple[str, ...]
) -> list[DeadLetter]:
    return [
        letter
        for letter in read_letters(open_event_log(settings))
        if (not reasons or letter.reason in reasons)
        and (not topics or letter.topic in topics)
        and (not places or letter.place in places)
    ]
