"""`attune`: the one program. Command groups live in files of their own and are imported only when they run."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

from attune.cli.access import access_options
from attune.domain.errors import AttuneError, ServerUnavailable

# name: (file:command, one line of help). --help is made of this table, so that it imports nothing.
COMMANDS = {
    "demo": ("demo:demo", "Watch a language model get better from people's rankings, end to end."),
    "up": ("up:up", "Run all services on this machine."),
    "status": ("status:status", "Show what every service is doing."),
    "check": ("check:check", "Send one conversation around the loop, and take it back."),
    "generate": ("generate:generate", "Ask the policy for completions."),
    "feedback": ("feedback:feedback", "Rate, compare, rank, correct; run ingest and join; erase a person."),
    "dead-letters": ("dead_letters:dead_letters", "See what the join could not use, and write it back."),
    "replay": ("replay:replay", "Rebuild the examples from the event log and compare them with the live ones."),
    "revisions": ("revisions:revisions", "List, show and prune revisions."),
    "promote": ("promote:promote", "Point stable at a revision."),
    "rollback": ("rollback:rollback", "Point stable back at the revision before."),
    "pause": ("training:pause", "Hold the trainer before its next step."),
    "resume": ("training:resume", "Let the trainer go on."),
    "watch": ("training:watch", "Show promotions, rejections and stops as they happen."),
    "pretrain": ("pretrain:pretrain", "Make a base model from text."),
    "sft": ("sft:sft", "Fine-tune a model on demonstrations."),
    "reward-model": ("reward_model:reward_model", "Train a reward model on rankings, pairs and ratings."),
    "keys": ("keys:keys", "Make, list and revoke the keys with which apps and operators call."),
    "topics": ("topics:topics", "Make and check the topics on a Kafka cluster."),
    "policy": ("policy:policy", "Run the policy server."),
    "reward": ("reward:reward", "Run the reward server."),
    "trainer": ("trainer:trainer", "Run the trainer."),
}


class LazyGroup(click.Group):
    """A group whose commands are named in COMMANDS."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        file, command = COMMANDS[name][0].split(":")
        return getattr(import_module(f"attune.cli.{file}"), command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="attune")
@access_options
@click.pass_context
def attune(ctx: click.Context, **access: Any) -> None:
    """Online reinforcement learning from human feedback, as services.

    A newcomer starts with `attune demo`.
    """
    ctx.obj = access


def main() -> None:
    """The program; an AttuneError becomes one line and exit status 1, and what to do where that is known."""
    try:
        attune()
    except AttuneError as error:
        click.echo(f"attune: {error.message}", err=True)
        if isinstance(error, ServerUnavailable):
            click.echo("`attune up` runs the services, `attune status` shows how they are", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
