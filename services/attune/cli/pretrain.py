"""`attune pretrain`: text files become a base model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from attune.cli.stage import Bar, model_to_publish, publish, stage_options, stage_settings, tell
from attune.platform.registry.registry import Registry


@click.command("pretrain")
@stage_options("policies")
@click.option("--base", metavar="MODEL", help="Go on from this folder or hub id instead of a new model.")
@click.option("--family", type=click.Choice(["llama", "gpt2", "qwen2"]), default="llama", show_default=True)
@click.option("--layers", type=click.IntRange(1), default=4, show_default=True)
@click.option("--width", type=click.IntRange(8), default=256, show_default=True)
@click.option("--heads", type=click.IntRange(1), default=8, show_default=True)
@click.option("--context", type=click.IntRange(8), default=256, show_default=True, help="Longest sequence in tokens.")
@click.option("--vocabulary", type=click.IntRange(270), default=2000, show_default=True, help="Tokens of a new one.")
@click.option("--sequence-tokens", type=click.IntRange(2), help="Length of a training sequence; default: the context.")
@click.option("--packed/--unpacked", "is_packed", default=True, show_default=True, help="Join documents into one text.")
def pretrain(
    *,
    data: tuple[str, ...],
    out: Path,
    base: str | None,
    family: str,
    layers: int,
    width: int,
    heads: int,
    context: int,
    vocabulary: int,
    sequence_tokens: int | None,
    is_packed: bool,
    registry: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Make a base model from text: train a tokenizer, then predict the next token.

    DATA are text files, their documents parted by blank lines, or .jsonl files whose lines hold "text" or "messages".

    Example: attune pretrain books.txt chats.jsonl --out base --steps 2000
    """
    model = model_to_publish(options.pop("publish"), "policies")
    settings = stage_settings(options, batch_size=32, validate_every=100)
    from attune.modeling.loading import PolicyShape
    from attune.trainer.stages import pretraining

    shape = PolicyShape(family, layers, width, heads, context=context)  # type: ignore[arg-type]
    with Bar("pretraining") as on_progress:
        result = pretraining.pretrain(
            data,
            out,
            base or shape,
            settings,
            vocabulary=vocabulary,
            sequence_tokens=sequence_tokens,
            is_packed=is_packed,
            on_progress=on_progress,
        )
    tell(result, publish(Registry(registry), model, result) if model else None, "", as_json)
