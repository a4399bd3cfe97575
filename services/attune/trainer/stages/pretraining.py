"""Pretraining: text files become a base model, tokenizer included.

Documents (texts, or conversations in the chat template) are closed by EOS. Packed, they are joined into one stream and
cut into sequences of equal length, which suits long and mixed texts; unpacked, each stands alone, so that nothing of
another conversation distracts from this one. Each token is predicted once. Without a base the tokenizer is trained on
the training documents and the model is new; with one, training goes on from it. Written: a policy folder.

Refused: what attune.trainer.stages.data and .training refuse, and text too short for one sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from attune.domain.errors import InvalidInput
from attune.modeling.loading import LoadedPolicy, PolicyShape, load_for_training, max_context, new_policy, save_policy
from attune.modeling.tokenizer import completion_ids, render_conversation, train_tokenizer
from attune.trainer.preferences import Chat
from attune.trainer.stages.data import read_documents, split_by_prompt
from attune.trainer.stages.language_modelling import LanguageModelLearner, MaskedSequence
from attune.trainer.stages.training import OnProgress, StageResult, StageRun, StageSettings, source_identity


def pretrain(
    data: Sequence[str | Path],
    out: str | Path,
    base: PolicyShape | str | Path,
    settings: StageSettings,
    *,
    vocabulary: int = 1200,
    sequence_tokens: int | None = None,
    is_packed: bool = True,
    on_progress: OnProgress | None = None,
) -> StageResult:
    """Train on the texts of `data` and write a policy folder to `out`.

    `base` is the shape of a new model, whose tokenizer gets `vocabulary` tokens, or a folder or hub id to go on from.
    `sequence_tokens` is the (longest) length of a training sequence, the model's context when not given.
    """
    origin = base.__dict__ if isinstance(base, PolicyShape) else source_identity(base)
    identity = ["pretrain", [source_identity(path) for path in data], origin, vocabulary, sequence_tokens, is_packed]
    run = StageRun(out, settings, identity)
    if finished := run.finished():
        return finished
    training, validation = split_by_prompt(read_documents(data), lambda document: document, settings.validation_share)
    policy = _start(base, training, vocabulary, settings.seed)
    width = min(sequence_tokens or policy.max_context, policy.max_context)
    cut = pack if is_packed else separate
    sequences = cut(policy.tokenizer, training, width)
    held_out = cut(policy.tokenizer, validation, width)
    if not sequences:
        raise InvalidInput(f"the texts hold fewer than {width} tokens; give more text or a shorter sequence")
    learner = LanguageModelLearner(policy.model, int(policy.tokenizer.pad_token_id), sequences, held_out, settings)
    loss, validation_loss = run.train(learner, learner.batches.steps, on_progress)
    result = StageResult(run.out, learner.batches.steps, loss, validation_loss, len(training), len(validation))
    return run.finish(result, lambda folder: save_policy(policy.model, policy.tokenizer, folder))


def pack(tokenizer: PreTrainedTokenizerBase, documents: Sequence[Chat], width: int) -> list[MaskedSequence]:
    """Documents, each closed by EOS, as sequences of `width` tokens that overlap by one; what is left over is dropped.

    The overlap is why every token is predicted once. Control tokens spelled in a text are plain characters.
    """
    stream = [token for document in documents for token in _encoded(tokenizer, document)]
    return [
        MaskedSequence(tuple(stream[start : start + width])) for start in range(0, len(stream) - width + 1, width - 1)
    ]


def separate(tokenizer: PreTrainedTokenizerBase, documents: Sequence[Chat], width: int) -> list[MaskedSequence]:
    """A sequence for each document, closed by EOS; one longer than `width` goes on in the next, overlapping by one."""
    encoded = [_encoded(tokenizer, document) for document in documents]
    return [
        MaskedSequence(tuple(ids[start : start + width]))
        for ids in encoded
        for start in range(0, max(1, len(ids) - 1), width - 1)
        if len(ids) > 1
    ]


def _encoded(tokenizer: PreTrainedTokenizerBase, document: Chat) -> list[int]:
    if isinstance(document, str):
        return completion_ids(tokenizer, document)
    return render_conversation(tokenizer, document)


def _start(base: PolicyShape | str | Path, documents: Sequence[Chat], vocabulary: int, seed: int) -> LoadedPolicy:
    if not isinstance(base, PolicyShape):
        return load_for_training(base, seed)
    texts = (text for d in documents for text in ([d] if isinstance(d, str) else [m["content"] for m in d]))
    tokenizer = train_tokenizer(texts, vocabulary)
    model = new_policy(base, tokenizer, seed)
    return LoadedPolicy(model, tokenizer, max_context(model.config))
