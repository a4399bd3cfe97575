"""`attune status`: all services in one table: whether each serves, and the two or three figures that matter of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from attune.cli.access import access
from attune.cli.addresses import address_option
from attune.cli.output import as_dict, print_json
from attune.client import NO_RETRY
from attune.client.calls import Connection
from attune.client.control import FeedbackControlClient, PolicyControlClient, RewardControlClient, TrainerClient
from attune.domain.errors import AttuneError

ONLY_IN_JSON = ("metrics", "topics", "phase", "paused", "policy", "reward")


@dataclass(frozen=True)
class Row:
    """One service: `error` is empty if it serves, `facts` what it says of itself."""

    service: str
    address: str
    error: str
    facts: Mapping[str, Any]


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one last line of JSON.")
@click.option("--timeout", "timeout_s", type=float, default=2.0, show_default=True, help="Seconds to wait for each.")
@address_option("policy_control")
@address_option("reward_control")
@address_option("feedback")
@address_option("join")
@address_option("trainer")
def status(
    *,
    as_json: bool,
    timeout_s: float,
    policy_control_address: str,
    reward_control_address: str,
    feedback_address: str,
    join_address: str,
    trainer_address: str,
) -> None:
    """Show how all services are. The exit status is 1 unless every one serves; one that waits for a first revision
    does not."""
    asks: list[tuple[str, str, Callable[[str, float], Mapping[str, Any]]]] = [
        ("policy", policy_control_address, _policy),
        ("reward", reward_control_address, _reward),
        ("feedback ingest", feedback_address, _ingest),
        ("feedback join", join_address, _join),
        ("trainer", trainer_address, _trainer),
    ]
    rows = [_row(service, address, ask, timeout_s) for service, address, ask in asks]
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        _print(rows)
    if any(row.error or _state(row.facts).startswith("wait") for row in rows):
        raise click.exceptions.Exit(1)


def _row(service: str, address: str, ask: Callable[[str, float], Mapping[str, Any]], timeout_s: float) -> Row:
    try:
        return Row(service, address, "", ask(address, timeout_s))
    except AttuneError as error:
        return Row(service, address, error.message, {})


def _policy(address: str, timeout_s: float) -> Mapping[str, Any]:
    with PolicyControlClient(address, NO_RETRY, access()) as client:
        return as_dict(client.status(timeout_s=timeout_s))


def _reward(address: str, timeout_s: float) -> Mapping[str, Any]:
    with RewardControlClient(address, NO_RETRY, access()) as client:
        return as_dict(client.status(timeout_s=timeout_s))


def _ingest(address: str, timeout_s: float) -> Mapping[str, Any]:
    """Ingest has no control port: it serves or it does not."""
    with Connection(address, NO_RETRY, access()) as connection:
        connection.wait_until_serving(timeout_s)
    return {}


def _join(address: str, timeout_s: float) -> Mapping[str, Any]:
    with FeedbackControlClient(address, NO_RETRY, access()) as client:
        facts = as_dict(client.status(timeout_s=timeout_s))
    facts["states"] = {entry["state"].removeprefix("FEEDBACK_STATE_"): entry["events"] for entry in facts["states"]}
    return facts


def _trainer(address: str, timeout_s: float) -> Mapping[str, Any]:
    with TrainerClient(address, NO_RETRY, access()) as client:
        facts = as_dict(client.status(timeout_s=timeout_s))
    return facts | {"phase": facts["phase"].removeprefix("PHASE_")}


def _print(rows: list[Row]) -> None:
    columns = ("service", Column("address", no_wrap=True), Column("state", max_width=20), "what it says")
    table = Table(*columns, box=SIMPLE_HEAD)
    for row in rows:
        state = f"[red]{row.error}[/red]" if row.error else f"[green]{_state(row.facts)}[/green]"
        table.add_row(row.service, row.address, state, _said(row.facts))
    Console().print(table)


def _state(facts: Mapping[str, Any]) -> str:
    if facts.get("paused"):
        return "paused"
    if "live_revision" in facts and not facts["live_revision"]:
        return "waits for a revision"
    return str(facts.get("phase", "serving")).lower().replace("_", " ")


def _said(facts: Mapping[str, Any]) -> str:
    """Short facts, one a line; a revision in a list is its number."""
    shown = {key: value for key, value in facts.items() if key not in ONLY_IN_JSON}
    shown["lag_records"] = sum(topic["lag_records"] for topic in facts.get("topics", ()))
    told = {key: _short(value) for key, value in shown.items() if value not in ("", 0, [], {}, None)}
    return "\n".join(text if key == "reason" else f"{key.replace('_', ' ')}: {text}" for key, text in told.items())


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(item).rpartition("/")[2] for item in value)
    if isinstance(value, dict) and "reason" in value:
        return f"{value['revision'].rpartition('/')[2]}, {value['reason']}"
    if isinstance(value, dict):
        return ", ".join(f"{key.lower()} {count}" for key, count in value.items())
    return str(value)
