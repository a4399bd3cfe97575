"""`attune generate`: asks the policy server for completions of one prompt."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from attune.cli.access import access
from attune.cli.addresses import address_option
from attune.client import Client, Delta, GenerationResult, Prompt, Timeouts
from attune.client.requests import GenerateOptions


@click.command("generate")
@click.argument("prompt")
@click.option("--completions", type=int, default=1, show_default=True, help="How many completions.")
@click.option("--revision", default="", help="An alias, a number or a full name; stable if not given.")
@click.option("--max-tokens", type=int, help="Most tokens of a completion.")
@click.option("--temperature", type=float, help="Divides the logits.")
@click.option("--top-p", type=float, help="Nucleus, in (0, 1].")
@click.option("--top-k", type=int, help="Most likely tokens only; 1 is greedy.")
@click.option("--seed", type=int, help="Seed of the draw.")
@click.option("--stop", multiple=True, help="A string that ends a completion; may be repeated.")
@click.option("--subject", default="", help="The person it is for, by whom feedback and erasure go.")
@click.option("--app", default="cli", show_default=True, help="The app that asks.")
@click.option("--text", "is_bare_text", is_flag=True, help="Take the prompt as bare text, not as a chat message.")
@click.option("--stream", "is_stream", is_flag=True, help="Print the first completion while it is written.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole generation as one last line of JSON.")
@click.option("--timeout", "timeout_s", type=float, default=60.0, show_default=True, help="Seconds to wait.")
@address_option("policy")
def generate(
    prompt: str,
    *,
    completions: int,
    revision: str,
    max_tokens: int | None,
    temperature: float | None,
    top_p: float | None,
    top_k: int | None,
    seed: int | None,
    stop: tuple[str, ...],
    subject: str,
    app: str,
    is_bare_text: bool,
    is_stream: bool,
    as_json: bool,
    timeout_s: float,
    policy_address: str,
) -> None:
    """Write completions of PROMPT with the live policy."""
    options: GenerateOptions = {
        "completions": completions,
        "revision": revision,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "seed": seed,
        "stop": stop,
        "subject_id": subject,
    }
    asked = Prompt(text=prompt) if is_bare_text else prompt
    with Client(
        app_id=app, policy_address=policy_address, timeouts=Timeouts(generate_s=timeout_s), access=access()
    ) as client:
        result = _streamed(client, asked, options) if is_stream else client.generate(asked, **options)
    if as_json:
        click.echo(json.dumps(asdict(result.generation) | {"recorded": result.recorded}))
    else:
        _print(result, has_printed_first=is_stream)


def _streamed(client: Client, prompt: str | Prompt, options: GenerateOptions) -> GenerationResult:
    """The result, after the first completion has been printed as it came."""
    for item in client.stream(prompt, **options):
        if isinstance(item, GenerationResult):
            click.echo()
            return item
        if isinstance(item, Delta) and item.index == 0:
            click.echo(item.text, nl=False)
            sys.stdout.flush()
    raise click.ClickException("the stream ended without its last message")


def _print(result: GenerationResult, has_printed_first: bool) -> None:
    generation = result.generation
    click.secho(f"{generation.id}  {generation.revision}", dim=True)
    if not result.recorded:
        click.secho("not recorded: feedback on it will stay pending", fg="yellow")
    for i, completion in enumerate(generation.completions):
        click.secho(f"{completion.id}  {completion.finish_reason.name.lower()}", dim=True)
        if i or not has_printed_first:
            click.echo(completion.text)
