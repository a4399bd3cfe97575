"""`attune rollback`: points stable back at the revision before, through the trainer, which holds the epoch."""

from __future__ import annotations

import click

from attune.cli.access import access
from attune.cli.addresses import address_option
from attune.cli.output import print_move
from attune.cli.person import person
from attune.client.control import TrainerClient


@click.command("rollback")
@click.option("--model", default="", help="policies/NAME or rewards/NAME; the trainer's policy by default.")
@click.option("--reason", default="", help="Why, for the record.")
@click.option("--actor", default=person, help="Who wants it; the user by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the move as one last line of JSON.")
@address_option("trainer")
def rollback(model: str, reason: str, actor: str, as_json: bool, trainer_address: str) -> None:
    """Make the revision before the stable one again."""
    with TrainerClient(trainer_address, access=access()) as trainer:
        print_move(trainer.rollback(actor=actor, reason=reason, model=model), as_json)
