"""`attune sft`: demonstrations teach a base model to answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from attune.cli.stage import Bar, model_to_publish, publish, stage_options, stage_settings, tell
from attune.platform.registry.registry import Registry


@click.command("sft")
@stage_options("policies")
@click.option("--base", required=True, metavar="MODEL", help="Folder or hub id of a causal language model.")
def sft(*, data: tuple[str, ...], out: Path, base: str, registry: str, as_json: bool, **options: Any) -> None:
    """Fine-tune a model on demonstrations of good answers.

    DATA are .jsonl files whose lines hold "prompt" and "completion", or "messages"; a prompt is a string, taken as it
    is, or a list of {"role", "content"}, which goes through the model's chat template.

    Example: attune sft answers.jsonl --base base --out sft --publish policies/support
    """
    model = model_to_publish(options.pop("publish"), "policies")
    settings = stage_settings(options, lr=5e-4, epochs=2.0, validate_every=50)
    from attune.trainer.stages.sft import finetune

    with Bar("SFT") as on_progress:
        result = finetune(data, out, base, settings, on_progress=on_progress)
    tell(result, publish(Registry(registry), model, result) if model else None, "", as_json)
