"""Supervised fine-tuning: demonstrations teach a base model to answer, and to stop.

The loss is on the completion's tokens and its EOS only; prompts are rendered exactly as the engine renders them. An
example that does not fit the context is dropped and counted: cut, it would teach to stop mid-sentence or to answer half
a question. Read: a causal-LM folder or hub id (a missing PAD or chat template is added). Written: a policy folder.

Refused: what attune.trainer.stages.data and .training refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from attune.modeling.loading import load_for_training, save_policy
from attune.modeling.tokenizer import completion_ids, render_prompt
from attune.trainer.stages.data import SupervisedExample, read_demonstrations, split_by_prompt
from attune.trainer.stages.language_modelling import LanguageModelLearner, MaskedSequence
from attune.trainer.stages.training import OnProgress, StageResult, StageRun, StageSettings, source_identity


def finetune(
    data: Sequence[str | Path],
    out: str | Path,
    base: str | Path,
    settings: StageSettings,
    *,
    on_progress: OnProgress | None = None,
) -> StageResult:
    """Train the model of `base` on the demonstrations of `data` and write a policy folder to `out`."""
    identity = ["sft", [source_identity(path) for path in data], source_identity(base)]
    run = StageRun(out, settings, identity)
    if finished := run.finished():
        return finished
    policy = load_for_training(base, settings.seed)
    examples = read_demonstrations(data)
    training, validation = split_by_prompt(examples, lambda example: example.prompt, settings.validation_share)
    sequences = encode(policy.tokenizer, training, policy.max_context)
    held_out = encode(policy.tokenizer, validation, policy.max_context)
    dropped = len(examples) - len(sequences) - len(held_out)
    learner = LanguageModelLearner(policy.model, int(policy.tokenizer.pad_token_id), sequences, held_out, settings)
    loss, validation_loss = run.train(learner, learner.batches.steps, on_progress)
    result = StageResult(run.out, learner.batches.steps, loss, validation_loss, len(sequences), len(held_out), dropped)
    return run.finish(result, lambda folder: save_policy(policy.model, policy.tokenizer, folder))


def encode(
    tokenizer: PreTrainedTokenizerBase, examples: Iterable[SupervisedExample], max_context: int
) -> list[MaskedSequence]:
    """Rendered prompt, completion and EOS, learnt from the completion on; those beyond `max_context` are left out."""
    sequences = []
    for example in examples:
        prompt_ids = render_prompt(tokenizer, example.prompt)
        ids = (*prompt_ids, *completion_ids(tokenizer, example.completion))
        if len(ids) <= max_context:
            sequences.append(MaskedSequence(ids, learnt_from=len(prompt_ids)))
    return sequences
