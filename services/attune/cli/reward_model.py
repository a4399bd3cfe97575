"""`attune reward-model`: people's rankings become a reward model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attune.cli.stage import Bar, model_to_publish, publish, stage_options, stage_settings, tell
from attune.platform.registry.registry import Registry

if TYPE_CHECKING:
    from attune.trainer.gates import GateVerdict
    from attune.trainer.stages.training import StageSettings


@click.command("reward-model")
@stage_options("rewards")
@click.option("--base", required=True, metavar="MODEL", help="Folder or hub id whose trunk is taken, best the policy's;"
              " or a reward model folder to go on from.")  # fmt: skip
@click.option(
    "--anchors",
    type=click.Path(exists=True, dir_okay=False),
    help='JSONL of "prompt" and "completion", answers of the policy that enters the loop: the scale of all scores. '
    "Default: texts of DATA.",
)
def reward_model(
    *,
    data: tuple[str, ...],
    out: Path,
    base: str,
    anchors: str | None,
    registry: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a reward model on rankings, pairs and ratings.

    DATA are .jsonl files whose lines hold "prompt" with "chosen" and "rejected", or with "ranking" (best to worst, a
    list inside is a tie), or with "completion" and "rating" in [0, 1]. Published, it becomes stable only if it orders
    held-out rankings better than chance.

    Example: attune reward-model rankings.jsonl --base sft --out reward --publish rewards/support
    """
    model = model_to_publish(options.pop("publish"), "rewards")
    defaults = {"lr": 3e-4, "batch_size": 64, "epochs": 2.0, "weight_decay": 0.01, "validation_share": 0.15}
    settings = stage_settings(options, validate_every=50, **defaults)
    from attune.trainer.stages.data import read_demonstrations
    from attune.trainer.stages.reward_model import train_reward_model

    fixed = [(e.prompt, e.completion) for e in read_demonstrations([anchors])] if anchors else None
    with Bar("reward model") as on_progress:
        result = train_reward_model(data, out, base, settings, anchors=fixed, on_progress=on_progress)
    if model is None:
        tell(result, None, "", as_json)
        return
    verdict = _verdict(data, result.folder, settings)
    published = publish(Registry(registry), model, result, verdict)
    why_not = "" if verdict.passed else f"not stable: {'; '.join(verdict.reasons)}"
    tell(result, published, why_not, as_json)


def _verdict(data: tuple[str, ...], folder: Path, settings: StageSettings) -> GateVerdict:
    """What the held-out rankings and pairs say of the reward model; ratings do not count here."""
    from attune.modeling.reward_model import load_reward_model
    from attune.trainer.gates import reward_gate
    from attune.trainer.reward_learner import RewardLearner, RewardSettings
    from attune.trainer.stages.data import read_preferences, split_by_prompt

    _, held_out = split_by_prompt(read_preferences(data), lambda p: p.prompt, settings.validation_share)
    learner = RewardLearner(load_reward_model(folder, settings.device), RewardSettings())
    return reward_gate(learner.pair_outcomes([p for p in held_out if p.kind == "ranking"]), None)
