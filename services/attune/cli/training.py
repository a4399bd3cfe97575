"""`attune pause`, `attune resume`, `attune watch`: hold the trainer, let it go on, see what it does as it happens."""

from __future__ import annotations

import time
from collections.abc import Iterator

import click

from attune.api.trainer.v1 import trainer_pb2
from attune.cli.access import access
from attune.cli.addresses import address_option
from attune.cli.output import as_dict, print_json
from attune.client.control import TrainerClient
from attune.domain.errors import DeadlineExceeded
from attune.domain.times import from_timestamp

SHOWN = ("win_rate", "gate_kl", "score_mean", "kl", "reward_accuracy", "calibration_error", "anchor_drift")
"""Figures of a happening that a line has room for; --json has all."""


@click.command("pause")
@click.option("--reason", default="", help="Why, for status and the log.")
@address_option("trainer")
def pause(reason: str, trainer_address: str) -> None:
    """Hold the trainer before its next step. Policy and reward servers serve on."""
    with TrainerClient(trainer_address, access=access()) as trainer:
        trainer.pause(reason)
    click.echo("paused; `attune resume` lets it go on")


@click.command("resume")
@address_option("trainer")
def resume(trainer_address: str) -> None:
    """Let the trainer go on, after a pause or after it stopped itself to protect the policy."""
    with TrainerClient(trainer_address, access=access()) as trainer:
        trainer.resume()
    click.echo("resumed")


@click.command("watch")
@click.option("--json", "as_json", is_flag=True, help="Print each happening as a line of JSON.")
@address_option("trainer")
def watch(as_json: bool, trainer_address: str) -> None:
    """Show promotions, rejections and stops as they happen, until Ctrl-C."""
    with TrainerClient(trainer_address, access=access()) as trainer:
        for happening in _happenings(trainer):
            if as_json:
                print_json(as_dict(happening))
            else:
                click.echo(_line(happening))


def _happenings(trainer: TrainerClient) -> Iterator[trainer_pb2.WatchResponse]:
    """Until the trainer ends; a server cuts every call at its longest deadline, and then this looks on anew."""
    while True:
        try:
            yield from trainer.watch()
            return
        except DeadlineExceeded:
            continue


def _line(h: trainer_pb2.WatchResponse) -> str:
    moment = time.strftime("%H:%M:%S", time.localtime(from_timestamp(h.time)))
    event = trainer_pb2.TrainerEvent.Name(h.event).removeprefix("TRAINER_EVENT_").lower().replace("_", " ")
    figures = [f"{name} {h.metrics[name]:.3g}" for name in SHOWN if name in h.metrics]
    return "  ".join(part for part in (moment, f"step {h.step}", event, h.revision, h.reason, *figures) if part)
