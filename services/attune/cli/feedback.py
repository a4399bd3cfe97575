"""`attune feedback …`: runs ingest and join, gives feedback by hand, makes tokens, shows an event, erases a person."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from attune.cli.access import access
from attune.cli.addresses import address_option
from attune.cli.output import as_dict, print_json
from attune.cli.service import service_command
from attune.client import Client, Receipt
from attune.client.control import FeedbackControlClient

F = TypeVar("F", bound=Callable[..., Any])


@click.group("feedback")
def feedback() -> None:
    """Run the feedback services, or give feedback by hand."""


feedback.add_command(
    service_command(
        "ingest", "attune.feedback.ingest", "IngestSettings", "Accepts feedback; what it acknowledges is never lost."
    )
)
feedback.add_command(
    service_command(
        "join", "attune.feedback.join", "JoinSettings", "Matches feedback with generations into training examples."
    )
)


def _giving(command: F) -> F:
    """The options of every command that sends an event."""
    options = (
        click.option("--subject", "subject_id", required=True, help="The person who says it."),
        click.option("--source", default="", help='Where such ratings come from, such as "thumbs".'),
        click.option("--event-id", default="", help="A UUID; the same event sent again under it counts once."),
        click.option("--app", default="cli", show_default=True, help="The app that asked for the completions."),
        click.option("--json", "as_json", is_flag=True, help="Print the receipt as one last line of JSON."),
        address_option("feedback"),
    )
    for option in reversed(options):
        command = option(command)
    return command


@feedback.command("rate")
@click.argument("completion")
@click.argument("value", type=float)
@_giving
def rate(completion: str, value: float, **given: Any) -> None:
    """Say how good COMPLETION is: VALUE in [0, 1], a thumb is 0 or 1."""
    _give(given, lambda client, options: client.rate(completion, value, **options))


@feedback.command("compare")
@click.argument("chosen")
@click.argument("rejected")
@_giving
def compare(chosen: str, rejected: str, **given: Any) -> None:
    """Say that CHOSEN is better than REJECTED."""
    _give(given, lambda client, options: client.compare(chosen, rejected, **options))


@feedback.command("rank")
@click.argument("tiers", nargs=-1, required=True)
@_giving
def rank(tiers: tuple[str, ...], **given: Any) -> None:
    """Order completions, best first; join equally good ones with commas."""
    best_to_worst = [tier.split(",") for tier in tiers]
    _give(given, lambda client, options: client.rank(best_to_worst, **options))


@feedback.command("demonstrate")
@click.argument("completion")
@click.argument("text")
@_giving
def demonstrate(completion: str, text: str, **given: Any) -> None:
    """Say that the answer should have been TEXT instead of COMPLETION."""
    _give(given, lambda client, options: client.demonstrate(completion, text, **options))


@feedback.command("token")
@click.argument("generation")
@click.option("--subject", "subject_id", required=True, help="The person who may judge it.")
@click.option("--app", required=True, help="The app that asked for the generation.")
@click.option("--key-id", required=True, help="Which of the app's token keys of ingest signs.")
@click.option("--lifetime", "lifetime_s", type=float, default=900.0, show_default=True, help="Seconds that it holds.")
@click.option("--secret-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="File of the secret.")
def token(generation: str, subject_id: str, app: str, key_id: str, lifetime_s: float, secret_file: Path | None) -> None:
    """Print a token with which a browser may judge GENERATION, as one person, and nothing else.

    The secret is that of the key id in http.token_keys of ingest; without a file it comes from the environment variable
    ATTUNE_CLI_TOKEN_SECRET.
    """
    secret = secret_file.read_text().strip() if secret_file else os.environ.get("ATTUNE_CLI_TOKEN_SECRET", "")
    from attune.client.tokens import sign_feedback_token

    click.echo(
        sign_feedback_token(app, key_id, secret, subject_id=subject_id, generation_id=generation, lifetime_s=lifetime_s)
    )


@feedback.command("show")
@click.argument("event_id")
@click.option("--app", default="cli", show_default=True, help="The app that sent it.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one last line of JSON.")
@address_option("join")
def show(event_id: str, app: str, as_json: bool, join_address: str) -> None:
    """Show where an event stands, and why."""
    with FeedbackControlClient(join_address, access=access()) as client:
        report = client.get_feedback(app, event_id)
    if as_json:
        event = as_dict(report.event.to_proto()) if report.event else None
        print_json(asdict(report) | {"state": report.state.name, "event": event})
        return
    click.echo(f"{report.state.name}{f' ({report.reason})' if report.reason else ''}")
    if report.example_sequence:
        click.echo(f"example {report.example_sequence}")


@feedback.command("erase")
@click.argument("subject")
@click.option("--app", required=True, help="The app that names the person so.")
@click.option("--yes", "is_sure", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one last line of JSON.")
@address_option("join")
def erase(subject: str, app: str, is_sure: bool, as_json: bool, join_address: str) -> None:
    """Delete everything of SUBJECT, for good, and keep it out of every replay."""
    if not is_sure:
        click.confirm(f"Erase {subject} of {app}? This cannot be undone", abort=True)
    with FeedbackControlClient(join_address, access=access()) as client:
        report = client.erase_subject(app, subject)
    if as_json:
        print_json(as_dict(report))
        return
    click.echo(
        f"erased: {report.events_erased} events, {report.generations_erased} generations, "
        f"{report.examples_erased} examples"
    )
    for revision in report.revisions:
        click.echo(f"had read them: {revision}")
    click.echo(report.notice)
    emptied = time.strftime("%Y-%m-%d", time.gmtime(report.log_empty_time.seconds))
    click.echo(f"the event log will have dropped their words by {emptied}")


def _give(given: dict[str, Any], say: Callable[[Client, dict[str, Any]], Receipt]) -> None:
    options = {name: given[name] for name in ("subject_id", "source", "event_id")}
    with Client(app_id=given["app"], feedback_address=given["feedback_address"], access=access()) as client:
        receipt = say(client, options)
    if given["as_json"]:
        click.echo(json.dumps(asdict(receipt)))
    else:
        click.echo(f"{receipt.event_id}{'  known already' if receipt.is_repeat else ''}")
